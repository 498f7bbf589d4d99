"""A model directory of a few kilobytes in the manner of Qwen3: config.json, random weights, a tokenizer of tests/golden/text."""
import array
import json
import math
import pathlib
import random
import shutil
import struct

TOKENIZERS = pathlib.Path(__file__).resolve().parents[1] / "golden/text"
HIDDEN, LAYERS, HEADS, KV_HEADS, HEAD, WIDE, VOCAB = 32, 2, 4, 2, 8, 64, 704


def shapes(vocab):
    yield "model.embed_tokens.weight", (vocab, HIDDEN)
    for layer in range(LAYERS):
        head = f"model.layers.{layer}."
        yield head + "input_layernorm.weight", (HIDDEN,)
        yield head + "post_attention_layernorm.weight", (HIDDEN,)
        for name, rows in (("q", HEADS), ("k", KV_HEADS), ("v", KV_HEADS)):
            yield f"{head}self_attn.{name}_proj.weight", (rows * HEAD, HIDDEN)
        yield head + "self_attn.q_norm.weight", (HEAD,)
        yield head + "self_attn.k_norm.weight", (HEAD,)
        yield head + "self_attn.o_proj.weight", (HIDDEN, HEADS * HEAD)
        yield head + "mlp.gate_proj.weight", (WIDE, HIDDEN)
        yield head + "mlp.up_proj.weight", (WIDE, HIDDEN)
        yield head + "mlp.down_proj.weight", (HIDDEN, WIDE)
    yield "model.norm.weight", (HIDDEN,)


def write_weights(path, vocab):
    rng, header, body = random.Random(0), {"__metadata__": {"format": "pt"}}, b""
    for name, shape in shapes(vocab):
        is_norm = len(shape) == 1
        values = array.array("f", (1.0 if is_norm else rng.gauss(0, 0.05) for _ in range(math.prod(shape))))
        header[name] = {"dtype": "F32", "shape": shape, "data_offsets": [len(body), len(body) + 4 * len(values)]}
        body += values.tobytes()
    head = json.dumps(header).encode()
    path.write_bytes(struct.pack("<Q", len(head)) + head + body)


def make(folder, tokenizer="qwen", vocab=VOCAB):
    """Writes the directory; without its tokenizer's files where `tokenizer` is empty."""
    folder.mkdir(parents=True)
    config = {
        "architectures": ["Qwen3ForCausalLM"], "model_type": "qwen3", "vocab_size": vocab, "hidden_size": HIDDEN, "head_dim": HEAD,
        "intermediate_size": WIDE, "num_hidden_layers": LAYERS, "num_attention_heads": HEADS, "num_key_value_heads": KV_HEADS,
        "max_position_embeddings": 4096, "rms_norm_eps": 1e-6, "rope_theta": 10000.0, "hidden_act": "silu", "attention_bias": False,
        "tie_word_embeddings": True, "torch_dtype": "float32", "eos_token_id": 642}
    (folder / "config.json").write_text(json.dumps(config, indent=1))
    (folder / "generation_config.json").write_text('{"eos_token_id": [642, 640]}\n')
    write_weights(folder / "model.safetensors", vocab)
    if tokenizer:
        for file in (TOKENIZERS / tokenizer).iterdir():
            shutil.copy(file, folder)
    return folder
