#include "src/config/names.hpp"

#include <algorithm>
#include <array>
#include <vector>

#include "fpdist/core/error.hpp"
#include "src/config/keys.hpp"
#include "src/core/edit_distance.hpp"

namespace fpdist::config {
namespace {

struct Synonym {
  std::string_view theirs, ours;
};

// The names of TRL, Transformers, Axolotl, LLaMA-Factory, OpenRLHF, torchtune and Megatron for what we have.
constexpr std::array kSynonyms = {
    Synonym{"micro_batch_size", "pack.max_tokens"},
    Synonym{"micro_train_batch_size", "pack.max_tokens"},
    Synonym{"packing_max_length", "pack.max_tokens"},
    Synonym{"per_device_train_batch_size", "train.groups_per_step"},
    Synonym{"gradient_accumulation_steps", "train.groups_per_step"},
    Synonym{"train_batch_size", "train.groups_per_step"},
    Synonym{"global_batch_size", "train.groups_per_step"},
    Synonym{"batch_size", "train.groups_per_step"},
    Synonym{"per_gpu_train_batch_size", "train.groups_per_step"},
    Synonym{"grad_accum", "train.groups_per_step"},
    Synonym{"grad_accumulation_steps", "train.groups_per_step"},
    Synonym{"per_device_eval_batch_size", "train.groups_per_step"},
    Synonym{"eval_batch_size", "train.groups_per_step"},
    Synonym{"num_epochs", "train.num_train_epochs"},
    Synonym{"max_epochs", "train.num_train_epochs"},
    Synonym{"epochs", "train.num_train_epochs"},
    Synonym{"n_epochs", "train.num_train_epochs"},
    Synonym{"num_steps", "train.max_steps"},
    Synonym{"max_iters", "train.max_steps"},
    Synonym{"total_steps", "train.max_steps"},
    Synonym{"num_training_steps", "train.max_steps"},
    Synonym{"train_iters", "train.max_steps"},
    Synonym{"steps", "train.max_steps"},
    Synonym{"log_steps", "train.logging_steps"},
    Synonym{"save_interval", "train.save_steps"},
    Synonym{"log_interval", "train.logging_steps"},
    Synonym{"log_every_n_steps", "train.logging_steps"},
    Synonym{"saves_per_epoch", "train.save_steps"},
    Synonym{"save_freq", "train.save_steps"},
    Synonym{"save_every", "train.save_steps"},
    Synonym{"checkpoint_interval", "train.save_steps"},
    Synonym{"max_ckpt_num", "train.save_total_limit"},
    Synonym{"keep_last_n", "train.save_total_limit"},
    Synonym{"max_checkpoints", "train.save_total_limit"},
    Synonym{"resume", "train.resume_from_checkpoint"},
    Synonym{"auto_resume_from_checkpoints", "train.resume_from_checkpoint"},
    Synonym{"load_checkpoint", "train.resume_from_checkpoint"},
    Synonym{"resume_checkpoint", "train.resume_from_checkpoint"},
    Synonym{"resume_checkpoint_path", "train.resume_from_checkpoint"},
    Synonym{"eval_strategy", "train.eval_steps"},
    Synonym{"evaluation_strategy", "train.eval_steps"},
    Synonym{"evals_per_epoch", "train.eval_steps"},
    Synonym{"eval_interval", "train.eval_steps"},
    Synonym{"eval_freq", "train.eval_steps"},
    Synonym{"val_check_interval", "train.eval_steps"},
    Synonym{"do_eval", "train.eval_steps"},
    Synonym{"run_eval_every_n_steps", "train.eval_steps"},
    Synonym{"early_stopping", "train.early_stopping_patience"},
    Synonym{"early_stopping_steps", "train.early_stopping_patience"},
    Synonym{"patience", "train.early_stopping_patience"},
    Synonym{"best_metric", "train.metric_for_best_model"},
    Synonym{"monitor", "train.metric_for_best_model"},
    Synonym{"check_for_nan_in_loss_and_grad", "train.on_nan"},
    Synonym{"logging_nan_inf_filter", "train.on_nan"},
    Synonym{"loss_watchdog_threshold", "train.on_spike"},
    Synonym{"loss_watchdog_patience", "train.on_spike"},
    Synonym{"use_wandb", "train.report_to"},
    Synonym{"use_tensorboard", "train.report_to"},
    Synonym{"tensorboard_dir", "train.report_to"},
    Synonym{"logger", "train.report_to"},
    Synonym{"save_path", "train.output_dir"},
    Synonym{"data_seed", "train.seed"},
    Synonym{"sequence_len", "data.max_length"},
    Synonym{"seq_len", "data.max_length"},
    Synonym{"seq_length", "data.max_length"},
    Synonym{"cutoff_len", "data.max_length"},
    Synonym{"max_len", "data.max_length"},
    Synonym{"max_seq_len", "data.max_length"},
    Synonym{"max_seq_length", "data.max_length"},
    Synonym{"max_prompt_length", "data.max_length"},
    Synonym{"datasets", "data.path"},
    Synonym{"dataset", "data.path"},
    Synonym{"dataset_name", "data.path"},
    Synonym{"train_file", "data.path"},
    Synonym{"eval_dataset", "data.eval_path"},
    Synonym{"eval_dataset_name", "data.eval_path"},
    Synonym{"eval_file", "data.eval_path"},
    Synonym{"validation_file", "data.eval_path"},
    Synonym{"val_files", "data.eval_path"},
    Synonym{"test_datasets", "data.eval_path"},
    Synonym{"val_set_size", "data.eval_fraction"},
    Synonym{"val_size", "data.eval_fraction"},
    Synonym{"test_size", "data.eval_fraction"},
    Synonym{"eval_split", "data.eval_fraction"},
    Synonym{"validation_split", "data.eval_fraction"},
    Synonym{"model_name_or_path", "model.path"},
    Synonym{"base_model", "model.path"},
    Synonym{"pretrain", "model.path"},
    Synonym{"ref_model", "model.ref_path"},
    Synonym{"ref_model_name_or_path", "model.ref_path"},
    Synonym{"ref_load", "model.ref_path"},
    Synonym{"export_dtype", "train.final_dtype"},
    Synonym{"torch_dtype", "model.dtype"},
    Synonym{"bf16", "model.dtype"},
    Synonym{"precision", "model.dtype"},
    Synonym{"gradient_checkpoint", "model.gradient_checkpointing"},
    Synonym{"activation_checkpointing", "model.gradient_checkpointing"},
    Synonym{"pref_beta", "loss.beta"},
    Synonym{"dpo_beta", "loss.beta"},
    Synonym{"rl_beta", "loss.beta"},
    Synonym{"kl_coef", "loss.beta"},
    Synonym{"init_kl_coef", "loss.beta"},
    Synonym{"pref_loss", "loss.loss_type"},
    Synonym{"cliprange", "loss.epsilon"},
    Synonym{"clip_range", "loss.epsilon"},
    Synonym{"eps_clip", "loss.epsilon"},
    Synonym{"max_new_tokens", "loss.max_completion_length"},
    Synonym{"lr", "optim.learning_rate"},
    Synonym{"actor_learning_rate", "optim.learning_rate"},
    Synonym{"lr_scheduler", "optim.lr_scheduler_type"},
    Synonym{"scheduler", "optim.lr_scheduler_type"},
    Synonym{"lr_decay_style", "optim.lr_scheduler_type"},
    Synonym{"scheduler_kwargs", "optim.lr_scheduler_kwargs"},
    Synonym{"min_lr", "optim.lr_scheduler_kwargs"},
    Synonym{"min_lr_rate", "optim.lr_scheduler_kwargs"},
    Synonym{"cosine_min_lr_ratio", "optim.lr_scheduler_kwargs"},
    Synonym{"lr_min_ratio", "optim.lr_scheduler_kwargs"},
    Synonym{"lr_wsd_decay_iters", "optim.lr_scheduler_kwargs"},
    Synonym{"embedding_lr", "optim.learning_rates"},
    Synonym{"lr_groups", "optim.learning_rates"},
    Synonym{"learning_rate_groups", "optim.learning_rates"},
    Synonym{"lr_warmup_iters", "optim.warmup_steps"},
    Synonym{"warmup_iters", "optim.warmup_steps"},
    Synonym{"num_warmup_steps", "optim.warmup_steps"},
    Synonym{"lr_warmup_ratio", "optim.warmup_ratio"},
    Synonym{"lr_warmup_fraction", "optim.warmup_ratio"},
    Synonym{"warmup_fraction", "optim.warmup_ratio"},
    Synonym{"adam_eps", "optim.adam_epsilon"},
    Synonym{"eps", "optim.adam_epsilon"},
    Synonym{"lr_warmup_steps", "optim.warmup_steps"},
    Synonym{"clip_grad", "optim.max_grad_norm"},
    Synonym{"gradient_clipping", "optim.max_grad_norm"},
    Synonym{"stage", "method"},
    Synonym{"trainer_type", "method"},
    Synonym{"rl", "method"},
    Synonym{"data_parallel_size", "parallel.dp"},
    Synonym{"tensor_parallel_size", "parallel.tp"},
    Synonym{"tensor_model_parallel_size", "parallel.tp"},
    Synonym{"context_parallel_size", "parallel.cp"},
    Synonym{"pipeline_parallel_size", "parallel.pp"},
    Synonym{"pipeline_model_parallel_size", "parallel.pp"},
    Synonym{"prefix_sharing", "pack.share_prefix"},
};

std::string normal(std::string_view name) {
  std::string out(name);
  std::transform(out.begin(), out.end(), out.begin(), [](unsigned char c) {
    return c == '-' ? '_' : c >= 'A' && c <= 'Z' ? static_cast<char>(c + 32) : c;
  });
  return out;
}

std::string_view last_part(std::string_view name) {
  const size_t dot = name.rfind('.');
  return dot == std::string_view::npos ? name : name.substr(dot + 1);
}

std::string_view nearest(std::string_view name) {
  const std::string_view leaf = last_part(name);
  for (const ConfigKey& key : keys())
    if (key.leaf() == leaf) return key.name;
  for (const Synonym& synonym : kSynonyms)
    if (synonym.theirs == leaf) return synonym.ours;
  std::string_view best;
  size_t best_distance = std::max<size_t>(2, leaf.size() / 3) + 1;
  for (const ConfigKey& key : keys()) {
    // A long wrong name is far from every key; comparing it would only cost time.
    if (name.size() > 2 * key.name.size() + 8) continue;
    const size_t distance = std::min(edit_distance(leaf, key.leaf()), edit_distance(name, key.name));
    if (distance < best_distance && distance < key.leaf().size()) {
      best = key.name;
      best_distance = distance;
    }
    if (leaf.size() != name.size()) continue;
    const size_t to_section = edit_distance(name, key.section);
    if (to_section < std::min<size_t>(best_distance, 3) && to_section < name.size()) {
      best = key.section;
      best_distance = to_section;
    }
  }
  return best;
}

}  // namespace

std::string unknown_key(std::string_view name) {
  const std::string_view meant = nearest(normal(name));
  return text("unknown key '", name, "'",
              meant.empty() ? "; --help lists all keys" : text("; did you mean ", meant, "?"));
}

}  // namespace fpdist::config
