#include "src/config/keys.hpp"

#include <algorithm>
#include <array>

#include "fpdist/loss/spec.hpp"

namespace fpdist::config {
namespace {

// The field is named once: the key is its spelling, and its type picks the variant's alternative, hence the parser and
// the printer.
#define FPDIST_KEY(member, meaning, values)                                 \
  Key {                                                                     \
#member, [](Config & c) -> Field { return &c.member; }, meaning, values \
  }

// clang-format off
const std::array kKeys = {
    FPDIST_KEY(method, "what is trained", "sft | dpo | reward | grpo"),
    FPDIST_KEY(model.path, "Hugging Face directory; give this or model.preset", ""),
    FPDIST_KEY(model.preset, "built-in shape with seeded random weights", "tiny"),
    FPDIST_KEY(model.seed, "seed of a preset's weights and of a new score head", ""),
    FPDIST_KEY(model.dtype, "weights and activations", "float32 | bfloat16 | float64"),
    FPDIST_KEY(model.device, "where the model lives", "auto | cpu | cuda"),
    FPDIST_KEY(model.deterministic, "the same run gives the same bits; false allows a GPU faster kernels", ""),
    FPDIST_KEY(model.gradient_checkpointing, "keep each block's input only and compute the block again in backward", ""),
    FPDIST_KEY(data.path, "JSONL files, read in this order", "one path or several"),
    FPDIST_KEY(data.max_length, "longest sample in tokens; longer text rows lose their end", ">= 2"),
    FPDIST_KEY(data.shuffle, "shuffle every epoch by (seed, epoch); false keeps file order", ""),
    FPDIST_KEY(data.columns, "our column's name -> the file's, e.g. chosen=preferred", ""),
    FPDIST_KEY(loss.loss_type, "empty: the method's first", loss::names_by_method()),
    FPDIST_KEY(loss.beta, "weight of the reference; -1: 0.1 for dpo, 0 for grpo", ">= 0 or -1"),
    FPDIST_KEY(loss.precompute_ref_log_probs, "dpo: reference log-probs of all data before the first step, then no reference model", ""),
    FPDIST_KEY(loss.center_rewards_coefficient, "reward: weight of mean((r_chosen + r_rejected)^2)", ">= 0"),
    FPDIST_KEY(loss.epsilon, "grpo: lower clip range", "> 0"),
    FPDIST_KEY(loss.epsilon_high, "grpo: upper clip range; -1: as loss.epsilon", "> 0 or -1"),
    FPDIST_KEY(loss.importance_sampling_level, "grpo: what one importance ratio covers", "token | sequence"),
    FPDIST_KEY(loss.scale_rewards, "grpo: over what advantages are scaled", "group | batch | none"),
    FPDIST_KEY(loss.use_bias_correction_kl, "grpo: multiply the KL estimate by the importance ratio", ""),
    FPDIST_KEY(loss.max_completion_length, "dr_grpo: divides by samples times this", ">= 1"),
    FPDIST_KEY(train.groups_per_step, "groups in one optimizer step, over all ranks", ">= 1"),
    FPDIST_KEY(train.max_steps, "optimizer steps", ">= 1"),
    FPDIST_KEY(train.seed, "order of the data", ""),
    FPDIST_KEY(train.output_dir, "where the run writes", ""),
    FPDIST_KEY(train.logging_steps, "print and log every n-th step", ">= 1"),
    FPDIST_KEY(train.save_steps, "export the model every n-th step; 0: only at the end", ">= 0"),
    FPDIST_KEY(train.profile_steps, "write planned and measured timelines of the first n steps as trace-<step>.json", ">= 0"),
    FPDIST_KEY(train.peak_tflops, "peak of one rank's processor, for mfu; 0: unknown", ">= 0"),
    FPDIST_KEY(train.comm_timeout_seconds, "a longer wait for another rank is a lost rank", ">= 1"),
    FPDIST_KEY(train.overwrite_output_dir, "allow output_dir to hold an earlier run's files: they are removed first", ""),
    FPDIST_KEY(optim.learning_rate, "peak learning rate", ">= 0"),
    FPDIST_KEY(optim.adam_beta1, "AdamW's decay of the mean", "0 <= x < 1"),
    FPDIST_KEY(optim.adam_beta2, "AdamW's decay of the variance", "0 <= x < 1"),
    FPDIST_KEY(optim.adam_epsilon, "AdamW's epsilon", "> 0"),
    FPDIST_KEY(optim.weight_decay, "of matrices, not of biases and norm weights", ">= 0"),
    FPDIST_KEY(optim.max_grad_norm, "clip the global gradient norm; 0: off", ">= 0"),
    FPDIST_KEY(optim.lr_scheduler_type, "learning rate over the steps", "linear | cosine | constant | constant_with_warmup"),
    FPDIST_KEY(optim.warmup_steps, "steps of linear warm-up", ">= 0"),
    FPDIST_KEY(parallel.dp, "data-parallel ranks; -1: the rest", ">= 1 or -1"),
    FPDIST_KEY(parallel.pp, "pipeline stages", ">= 1 or -1"),
    FPDIST_KEY(parallel.cp, "context-parallel ranks: they share the rows of a pack", ">= 1 or -1"),
    FPDIST_KEY(parallel.tp, "tensor-parallel ranks, sequence parallel between the linears", ">= 1 or -1"),
    FPDIST_KEY(parallel.schedule, "order of a pipeline's forwards and backwards", "1f1b | interleaved | zb-h1"),
    FPDIST_KEY(parallel.virtual_stages, "interleaved: runs of layers that each pipeline rank holds", ">= 1"),
    FPDIST_KEY(parallel.layers, "layers of each of the pp * virtual_stages runs; empty: by cost", "one number a run"),
    FPDIST_KEY(parallel.cp_method, "how keys reach the queries of other ranks", "auto | ring | groupcast | ulysses"),
    FPDIST_KEY(parallel.ulysses, "cp ranks that exchange heads instead of keys; 0: chosen for every pack", ">= 0"),
    FPDIST_KEY(parallel.cp_chunk, "most rows in a context-parallel chunk", ">= 1"),
    FPDIST_KEY(pack.max_tokens, "most rows in one pack (one micro-batch)", ">= 1"),
    FPDIST_KEY(pack.share_prefix, "compute shared prefixes once; false lays every sample out alone", ""),
    FPDIST_KEY(pack.slices, "slices in which a pack goes through the pipeline; 0: the planner chooses, 1: whole", ">= 0"),
    FPDIST_KEY(pack.max_in_flight, "most rows in flight on a pipeline stage; 0: what whole packs of max_tokens need", ">= 0"),
    FPDIST_KEY(pack.verify_steps, "run the first n steps shared and unshared and stop if they disagree", ">= 0"),
    FPDIST_KEY(comm.transport, "how tensors on a GPU travel; staged: over the host", "nccl | staged"),
    FPDIST_KEY(comm.nccl_max_ctas, "most thread blocks of an NCCL kernel; 0: its own choice", ">= 0"),
    FPDIST_KEY(comm.share_gpus, "let ranks outnumber the GPUs that they see", ""),
    FPDIST_KEY(plan.costs, "cost file of this model, e.g. the costs.yaml of a calibrated run; empty: by FLOPs", ""),
    FPDIST_KEY(plan.calibrate_steps, "time the first n steps, fit costs to them (output_dir/costs.yaml) and plan with these; 0: never, plans repeat bit for bit", ">= 0"),
};
// clang-format on
#undef FPDIST_KEY

}  // namespace

std::span<const Key> keys() { return kKeys; }

const Key* find_key(std::string_view name) {
  std::string normal(name);
  std::replace(normal.begin(), normal.end(), '-', '_');
  const auto found = std::find_if(kKeys.begin(), kKeys.end(), [&](const Key& key) { return key.name == normal; });
  return found == kKeys.end() ? nullptr : &*found;
}

std::string_view section_of(const Key& key) {
  const size_t dot = key.name.find('.');
  return dot == std::string_view::npos ? std::string_view() : key.name.substr(0, dot);
}

std::string_view leaf_of(const Key& key) { return key.name.substr(key.name.find('.') + 1); }

}  // namespace fpdist::config
