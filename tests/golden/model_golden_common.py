"""What the golden script and the export check share: Transformers in true float64."""
import math
import types

import torch


def inverse_frequencies64(config):
    """Transformers' formulas (default, linear, llama3) in float64; its own are float32 whatever the model's dtype."""
    rope = config.rope_parameters
    dim = getattr(config, "head_dim", None) or config.hidden_size // config.num_attention_heads
    freq = 1.0 / (rope["rope_theta"] ** (torch.arange(0, dim, 2, dtype=torch.float64) / dim))
    if rope["rope_type"] == "linear":
        freq = freq / rope["factor"]
    if rope["rope_type"] == "llama3":
        context = rope["original_max_position_embeddings"]
        low, high, factor = rope["low_freq_factor"], rope["high_freq_factor"], rope["factor"]
        wave = 2 * math.pi / freq
        smooth = (context / wave - low) / (high - low)
        blended = (1 - smooth) * freq / factor + smooth * freq
        freq = torch.where(wave > context / low, freq / factor, torch.where(wave < context / high, freq, blended))
    return freq


def patch_float64(model):
    """RMSNorm and rotary tables in float64: Transformers keeps both in float32."""

    def norm_forward(self, x):
        return self.weight * (x * torch.rsqrt(x.pow(2).mean(-1, keepdim=True) + self.variance_epsilon))

    def rotary_forward(self, x, position_ids):
        angle = position_ids[..., None].double() * inverse_frequencies64(self.config)
        angle = torch.cat((angle, angle), dim=-1)
        return angle.cos(), angle.sin()

    for module in model.modules():
        if type(module).__name__.endswith("RMSNorm"):
            module.forward = types.MethodType(norm_forward, module)
        if type(module).__name__.endswith("RotaryEmbedding"):
            module.forward = types.MethodType(rotary_forward, module)
    return model.double()
