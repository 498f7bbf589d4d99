#include "src/config/names.hpp"

#include <algorithm>
#include <array>
#include <string>
#include <vector>

#include "fpdist/core/error.hpp"
#include "src/config/keys.hpp"
#include "src/core/edit_distance.hpp"

namespace fpdist::config {
namespace {

/// A name of TRL, Transformers, Axolotl, LLaMA-Factory, OpenRLHF, torchtitan, torchtune, verl or Megatron.
struct OtherKey {
  std::string_view theirs;
  std::string_view ours;   ///< the key that says it here; "": none does
  std::string_view words;  ///< how the answer goes on, or what it is
};

// What several of them are answered with.
constexpr std::string_view kLora = "adapter: {type: lora, r: 16, lora_alpha: 32, target_modules: all-linear}";
constexpr std::string_view kPacks = "not needed: packs replace it";
constexpr std::string_view kNothingIsPadded = "not needed: packs replace it, nothing is padded";
constexpr std::string_view kOurAttention = "not needed: attention over trees is ours, on CPUs and GPUs";
constexpr std::string_view kOwnEngine = "not needed: the model that is trained generates (rollout.prompts)";
constexpr std::string_view kRolloutsSeeAll =
    "not for rollouts, whose log-probs a loss compares with the model's own: flex_prefill and eval.kv_budget are for "
    "evaluations";
constexpr std::string_view kNoDropout = "not needed: there is no dropout";
constexpr std::string_view kFused = "not needed: the step is C++ and its kernels are fused";
constexpr std::string_view kAlwaysSharded =
    "not needed: optimizer state and gradients are sharded over dp x cp (ZeRO-1) always";
constexpr std::string_view kNoLossHasIt = "not here yet: no loss has it";
constexpr std::string_view kNotQuantised = "not here: 4 bits are the quantization that there is (model.load_in_4bit)";
constexpr std::string_view kAdamW = "AdamW is the one that there is; its keys are in the section optim";

// The one place that knows them. Names with a dot are whole ones, others may stand in any section.
constexpr std::array kOtherKeys = {
    OtherKey{"adapter_name_or_path", "adapter.path", ""},
    OtherKey{"lora_model_dir", "adapter.path", ""},
    OtherKey{"peft_model_id", "adapter.path", ""},
    OtherKey{"autocast_adapter_dtype", "adapter.lora_dtype", "float32 for true"},
    OtherKey{"lora_r", "adapter.r", ""},
    OtherKey{"lora_rank", "adapter.r", ""},
    OtherKey{"lora_dropout", "adapter.lora_dropout", ""},
    OtherKey{"lora_target", "adapter.target_modules", ""},
    OtherKey{"lora_target_linear", "adapter.target_modules", "all-linear"},
    OtherKey{"lora_target_modules", "adapter.target_modules", ""},
    OtherKey{"finetuning_type", "adapter.type", kLora},
    OtherKey{"lora", "adapter.type", kLora},
    OtherKey{"peft_config", "adapter.type", kLora},
    OtherKey{"use_peft", "adapter.type", kLora},
    OtherKey{"use_lora", "adapter.type", kLora},
    OtherKey{"rollout.flex_prefill", "", kRolloutsSeeAll},
    OtherKey{"rollout.kv_budget", "", kRolloutsSeeAll},
    OtherKey{"rollout.kv_profile", "", kRolloutsSeeAll},
    OtherKey{"kv_profile", "eval.kv_profile", ""},
    OtherKey{"mask_history", "data.assistant_only_loss", ""},
    OtherKey{"group_by_length", "data.batching",
             "the planner packs by length; data.batching: prefix brings what begins alike into one step"},
    OtherKey{"eval_split", "data.eval_fraction", ""},
    OtherKey{"test_size", "data.eval_fraction", ""},
    OtherKey{"val_set_size", "data.eval_fraction", ""},
    OtherKey{"val_size", "data.eval_fraction", ""},
    OtherKey{"validation_split", "data.eval_fraction", ""},
    OtherKey{"eval_dataset", "data.eval_path", ""},
    OtherKey{"eval_dataset_name", "data.eval_path", ""},
    OtherKey{"eval_file", "data.eval_path", ""},
    OtherKey{"test_datasets", "data.eval_path", ""},
    OtherKey{"val_files", "data.eval_path", ""},
    OtherKey{"validation_file", "data.eval_path", ""},
    OtherKey{"cutoff_len", "data.max_length", ""},
    OtherKey{"max_len", "data.max_length", ""},
    OtherKey{"max_prompt_length", "data.max_length", "of prompt and completion together"},
    OtherKey{"max_seq_len", "data.max_length", ""},
    OtherKey{"max_seq_length", "data.max_length", ""},
    OtherKey{"seq_len", "data.max_length", ""},
    OtherKey{"seq_length", "data.max_length", ""},
    OtherKey{"sequence_len", "data.max_length", ""},
    OtherKey{"blend", "data.mixture", "times an epoch goes through a file"},
    OtherKey{"dataset_mixer", "data.mixture", "times an epoch goes through a file"},
    OtherKey{"interleave_probs", "data.mixture", "times an epoch goes through a file"},
    OtherKey{"dataset", "data.path", ""},
    OtherKey{"dataset_name", "data.path", ""},
    OtherKey{"datasets", "data.path", ""},
    OtherKey{"train_file", "data.path", ""},
    OtherKey{"dataset_num_proc", "data.text_workers", ""},
    OtherKey{"dataset_processes", "data.text_workers", ""},
    OtherKey{"preprocessing_num_workers", "data.text_workers", ""},
    OtherKey{"processing_class", "data.tokenizer", ""},
    OtherKey{"tokenizer_name", "data.tokenizer", ""},
    OtherKey{"tokenizer_name_or_path", "data.tokenizer", ""},
    OtherKey{"train_on_inputs", "data.train_on_all", ""},
    OtherKey{"train_on_prompt", "data.train_on_all", ""},
    OtherKey{"dpo_beta", "loss.beta", ""},
    OtherKey{"orpo_alpha", "loss.beta", ""},
    OtherKey{"init_kl_coef", "loss.beta", ""},
    OtherKey{"kl_coef", "loss.beta", ""},
    OtherKey{"pref_beta", "loss.beta", ""},
    OtherKey{"reward_beta", "loss.beta", ""},
    OtherKey{"rl_beta", "loss.beta", ""},
    OtherKey{"kto_chosen_weight", "loss.desirable_weight", ""},
    OtherKey{"kto_desirable_weight", "loss.desirable_weight", ""},
    OtherKey{"entropy_coeff", "loss.entropy_coef", ""},
    OtherKey{"clip_eps_low", "loss.epsilon", ""},
    OtherKey{"clip_range", "loss.epsilon", ""},
    OtherKey{"cliprange", "loss.epsilon", ""},
    OtherKey{"eps_clip", "loss.epsilon", ""},
    OtherKey{"epsilon_low", "loss.epsilon", ""},
    OtherKey{"clip_eps_high", "loss.epsilon_high", ""},
    OtherKey{"dpo_label_smoothing", "loss.label_smoothing", ""},
    OtherKey{"pref_loss", "loss.loss_type", ""},
    OtherKey{"preference_loss", "loss.loss_type", ""},
    OtherKey{"pref_ftx", "loss.loss_weights", "loss_type: [sigmoid, sft], loss_weights: [1, pref_ftx]"},
    OtherKey{"rpo_alpha", "loss.loss_weights", "loss_type: [sigmoid, sft], loss_weights: [1, rpo_alpha]"},
    OtherKey{"kto_rejected_weight", "loss.undesirable_weight", ""},
    OtherKey{"kto_undesirable_weight", "loss.undesirable_weight", ""},
    OtherKey{"dpo_use_weighting", "loss.use_weighting", ""},
    OtherKey{"reference_free", "method", "cpo (SimPO: loss.loss_type: simpo, loss.cpo_alpha: 0) or orpo"},
    OtherKey{"rl", "method", ""},
    OtherKey{"stage", "method", ""},
    OtherKey{"trainer_type", "method", ""},
    OtherKey{"double_quantization", "model.bnb_4bit_use_double_quant", ""},
    OtherKey{"use_bnb_nested_quant", "model.bnb_4bit_use_double_quant", ""},
    OtherKey{"bnb_4bit_compute_dtype", "model.dtype", ""},
    OtherKey{"bf16", "model.dtype", "model.dtype: bfloat16"},
    OtherKey{"precision", "model.dtype", "bfloat16, float32 or float64"},
    OtherKey{"torch_dtype", "model.dtype", ""},
    OtherKey{"activation_checkpoint.mode", "model.gradient_checkpointing", "true or false"},
    OtherKey{"activation_checkpointing", "model.gradient_checkpointing", ""},
    OtherKey{"gradient_checkpoint", "model.gradient_checkpointing", ""},
    OtherKey{"recompute_activations", "model.gradient_checkpointing", "true or false"},
    OtherKey{"recompute_granularity", "model.gradient_checkpointing", "true or false"},
    OtherKey{"qlora", "model.load_in_4bit", ""},
    OtherKey{"quantization", "model.load_in_4bit", "true for nf4"},
    OtherKey{"quantization_bit", "model.load_in_4bit", "true for 4"},
    OtherKey{"base_model", "model.path", ""},
    OtherKey{"model_name_or_path", "model.path", ""},
    OtherKey{"pretrain", "model.path", ""},
    OtherKey{"ref_load", "model.ref_path", ""},
    OtherKey{"ref_model", "model.ref_path", ""},
    OtherKey{"ref_model_name_or_path", "model.ref_path", ""},
    OtherKey{"adam_eps", "optim.adam_epsilon", ""},
    OtherKey{"eps", "optim.adam_epsilon", ""},
    OtherKey{"actor_learning_rate", "optim.learning_rate", ""},
    OtherKey{"lr", "optim.learning_rate", ""},
    OtherKey{"embedding_lr", "optim.learning_rates", ""},
    OtherKey{"learning_rate_groups", "optim.learning_rates", ""},
    OtherKey{"lr_groups", "optim.learning_rates", ""},
    OtherKey{"cosine_min_lr_ratio", "optim.lr_scheduler_kwargs", ""},
    OtherKey{"lr_min_ratio", "optim.lr_scheduler_kwargs", ""},
    OtherKey{"lr_wsd_decay_iters", "optim.lr_scheduler_kwargs", ""},
    OtherKey{"min_lr", "optim.lr_scheduler_kwargs",
             "lr_scheduler_type: cosine_with_min_lr, lr_scheduler_kwargs: {min_lr: ...}"},
    OtherKey{"min_lr_rate", "optim.lr_scheduler_kwargs", ""},
    OtherKey{"scheduler_kwargs", "optim.lr_scheduler_kwargs", ""},
    OtherKey{"lr_decay_style", "optim.lr_scheduler_type", ""},
    OtherKey{"lr_scheduler", "optim.lr_scheduler_type", ""},
    OtherKey{"scheduler", "optim.lr_scheduler_type", ""},
    OtherKey{"clip_grad", "optim.max_grad_norm", ""},
    OtherKey{"gradient_clipping", "optim.max_grad_norm", ""},
    OtherKey{"lr_warmup_fraction", "optim.warmup_ratio", ""},
    OtherKey{"lr_warmup_ratio", "optim.warmup_ratio", ""},
    OtherKey{"warmup_fraction", "optim.warmup_ratio", ""},
    OtherKey{"lr_warmup_iters", "optim.warmup_steps", ""},
    OtherKey{"lr_warmup_steps", "optim.warmup_steps", ""},
    OtherKey{"num_warmup_steps", "optim.warmup_steps", ""},
    OtherKey{"warmup_iters", "optim.warmup_steps", ""},
    OtherKey{"micro_batch_size", "pack.max_tokens", "in rows of tokens, not samples"},
    OtherKey{"micro_train_batch_size", "pack.max_tokens", "in rows of tokens, not samples"},
    OtherKey{"packing_max_length", "pack.max_tokens", ""},
    OtherKey{"prefix_sharing", "pack.share_prefix", ""},
    OtherKey{"context_parallel_degree", "parallel.cp", ""},
    OtherKey{"context_parallel_size", "parallel.cp", ""},
    OtherKey{"ring_attn_size", "parallel.cp", ""},
    OtherKey{"sequence_parallel_size", "parallel.cp", "tp is sequence parallel between the linears by itself"},
    OtherKey{"sp_size", "parallel.cp", ""},
    OtherKey{"cp_comm_type", "parallel.cp_method", "auto, ring, groupcast or ulysses"},
    OtherKey{"data_parallel", "parallel.dp", ""},
    OtherKey{"data_parallel_degree", "parallel.dp", ""},
    OtherKey{"data_parallel_replicate_degree", "parallel.dp", ""},
    OtherKey{"data_parallel_shard_degree", "parallel.dp", "optimizer state and gradients are sharded over it (ZeRO-1)"},
    OtherKey{"data_parallel_size", "parallel.dp", ""},
    OtherKey{"nproc_per_node", "parallel.dp", "mpirun -np says how many ranks there are"},
    OtherKey{"pipeline_model_parallel_size", "parallel.pp", ""},
    OtherKey{"pipeline_parallel_degree", "parallel.pp", ""},
    OtherKey{"pipeline_parallel_size", "parallel.pp", ""},
    OtherKey{"pipeline_parallel_schedule", "parallel.schedule", "1f1b, interleaved or zb-h1"},
    OtherKey{"tensor_model_parallel_size", "parallel.tp", ""},
    OtherKey{"tensor_parallel_degree", "parallel.tp", ""},
    OtherKey{"tensor_parallel_size", "parallel.tp", ""},
    OtherKey{"ulysses_degree", "parallel.ulysses", ""},
    OtherKey{"num_layers_per_virtual_pipeline_stage", "parallel.virtual_stages", "runs of layers a stage"},
    OtherKey{"virtual_pipeline_model_parallel_size", "parallel.virtual_stages", "runs of layers a stage"},
    OtherKey{"remote_rm_url", "reward.command", "a program that answers JSON lines"},
    OtherKey{"reward_funcs", "reward.functions", ""},
    OtherKey{"reward_weights", "reward.weights", ""},
    OtherKey{"max_completion_length", "rollout.max_completion_length", ""},
    OtherKey{"max_new_tokens", "rollout.max_completion_length", ""},
    OtherKey{"n_samples_per_prompt", "rollout.num_generations", ""},
    OtherKey{"prompt_data", "rollout.prompts", ""},
    OtherKey{"generation_batch_size", "rollout.steps_per_generation",
             "a round has so many times train.groups_per_step prompts"},
    OtherKey{"rollout_batch_size", "rollout.steps_per_generation",
             "a round has so many times train.groups_per_step prompts"},
    OtherKey{"stop_strings", "rollout.stop", ""},
    OtherKey{"ddp_timeout", "train.comm_timeout_seconds", "in seconds"},
    OtherKey{"distributed_timeout_minutes", "train.comm_timeout_seconds", "in seconds"},
    OtherKey{"early_stopping", "train.early_stopping_patience", ""},
    OtherKey{"early_stopping_steps", "train.early_stopping_patience", ""},
    OtherKey{"patience", "train.early_stopping_patience", ""},
    OtherKey{"do_eval", "train.eval_steps", ""},
    OtherKey{"eval_freq", "train.eval_steps", ""},
    OtherKey{"eval_interval", "train.eval_steps", ""},
    OtherKey{"eval_strategy", "train.eval_steps", "every n-th step"},
    OtherKey{"evals_per_epoch", "train.eval_steps", ""},
    OtherKey{"evaluation_strategy", "train.eval_steps", "every n-th step"},
    OtherKey{"run_eval_every_n_steps", "train.eval_steps", ""},
    OtherKey{"val_check_interval", "train.eval_steps", ""},
    OtherKey{"export_dtype", "train.final_dtype", ""},
    OtherKey{"batch_size", "train.groups_per_step", ""},
    OtherKey{"eval_batch_size", "train.groups_per_step", ""},
    OtherKey{"global_batch_size", "train.groups_per_step", ""},
    OtherKey{"grad_accum", "train.groups_per_step", ""},
    OtherKey{"grad_accumulation_steps", "train.groups_per_step", ""},
    OtherKey{"gradient_accumulation_steps", "train.groups_per_step",
             "a step is cut into packs of pack.max_tokens, which accumulate by themselves"},
    OtherKey{"local_batch_size", "train.groups_per_step", "over all ranks; pack.max_tokens is the knob of memory"},
    OtherKey{"per_device_eval_batch_size", "train.groups_per_step", ""},
    OtherKey{"per_device_train_batch_size", "train.groups_per_step",
             "the sum over devices and accumulation; the planner cuts it into packs"},
    OtherKey{"per_gpu_train_batch_size", "train.groups_per_step", ""},
    OtherKey{"train_batch_size", "train.groups_per_step", ""},
    OtherKey{"log", "train.logging_steps", ""},
    OtherKey{"log_every_n_steps", "train.logging_steps", ""},
    OtherKey{"log_interval", "train.logging_steps", ""},
    OtherKey{"log_steps", "train.logging_steps", ""},
    OtherKey{"logging_strategy", "train.logging_steps", ""},
    OtherKey{"max_iters", "train.max_steps", ""},
    OtherKey{"num_steps", "train.max_steps", ""},
    OtherKey{"num_training_steps", "train.max_steps", ""},
    OtherKey{"steps", "train.max_steps", ""},
    OtherKey{"total_steps", "train.max_steps", ""},
    OtherKey{"train_iters", "train.max_steps", ""},
    OtherKey{"best_metric", "train.metric_for_best_model", ""},
    OtherKey{"monitor", "train.metric_for_best_model", ""},
    OtherKey{"epochs", "train.num_train_epochs", ""},
    OtherKey{"max_epochs", "train.num_train_epochs", ""},
    OtherKey{"n_epochs", "train.num_train_epochs", ""},
    OtherKey{"num_epochs", "train.num_train_epochs", ""},
    OtherKey{"check_for_nan_in_loss_and_grad", "train.on_nan", ""},
    OtherKey{"logging_nan_inf_filter", "train.on_nan", ""},
    OtherKey{"loss_watchdog_patience", "train.on_spike", ""},
    OtherKey{"loss_watchdog_threshold", "train.on_spike", ""},
    OtherKey{"checkpoint.folder", "train.output_dir", ""},
    OtherKey{"dump_folder", "train.output_dir", ""},
    OtherKey{"logging_dir", "train.output_dir", "logs/ and tensorboard/ stand in it"},
    OtherKey{"run_name", "train.output_dir", "a run is called as its folder"},
    OtherKey{"save", "train.output_dir", ""},
    OtherKey{"save_path", "train.output_dir", ""},
    OtherKey{"enable_profiling", "train.profile_steps", "how many first steps are drawn"},
    OtherKey{"profile", "train.profile_steps", "how many first steps are drawn"},
    OtherKey{"profiling.enable_profiling", "train.profile_steps", "how many first steps are drawn"},
    OtherKey{"enable_tensorboard", "train.report_to", "train.report_to: [jsonl, tensorboard]"},
    OtherKey{"logger", "train.report_to", ""},
    OtherKey{"tensorboard_dir", "train.report_to", "tensorboard writes into output_dir/tensorboard"},
    OtherKey{"use_tensorboard", "train.report_to", "train.report_to: [jsonl, tensorboard]"},
    OtherKey{"use_wandb", "train.report_to",
             "jsonl, tensorboard or prometheus; Weights and Biases reads TensorBoard's files"},
    OtherKey{"wandb_project", "train.report_to",
             "jsonl, tensorboard or prometheus; Weights and Biases reads TensorBoard's files"},
    OtherKey{"auto_resume_from_checkpoints", "train.resume_from_checkpoint", ""},
    OtherKey{"load", "train.resume_from_checkpoint", ""},
    OtherKey{"load_checkpoint", "train.resume_from_checkpoint", ""},
    OtherKey{"load_in_checkpoint", "train.resume_from_checkpoint", ""},
    OtherKey{"resume", "train.resume_from_checkpoint", ""},
    OtherKey{"resume_checkpoint", "train.resume_from_checkpoint", ""},
    OtherKey{"resume_checkpoint_path", "train.resume_from_checkpoint", ""},
    OtherKey{"checkpoint.interval", "train.save_steps", ""},
    OtherKey{"checkpoint_interval", "train.save_steps", ""},
    OtherKey{"save_every", "train.save_steps", ""},
    OtherKey{"save_freq", "train.save_steps", ""},
    OtherKey{"save_interval", "train.save_steps", ""},
    OtherKey{"saves_per_epoch", "train.save_steps", ""},
    OtherKey{"checkpoint.enable", "train.save_strategy", "steps, epoch or no"},
    OtherKey{"keep_last_n", "train.save_total_limit", ""},
    OtherKey{"max_checkpoints", "train.save_total_limit", ""},
    OtherKey{"max_ckpt_num", "train.save_total_limit", ""},
    OtherKey{"data_seed", "train.seed", ""},
    OtherKey{"seed", "train.seed", "of the data's order; model.seed is that of new weights"},
    OtherKey{"accelerator_config", "", "not needed: mpirun starts the ranks and parallel arranges them"},
    OtherKey{"apply_chat_template", "",
             "not needed: conversations are rendered by the tokenizer's chat template always"},
    OtherKey{"attention_backend", "", kOurAttention},
    OtherKey{"attention_dropout", "", kNoDropout},
    OtherKey{"attn_implementation", "", kOurAttention},
    OtherKey{"auto_find_batch_size", "",
             "not needed: pack.max_tokens is the knob of memory, and out of memory says which value would fit"},
    OtherKey{"bnb_4bit_quant_storage", "", "not needed: codes are bytes here, and read whatever they are stored as"},
    OtherKey{
        "chat_template", "",
        "the model directory's own is read: put it into chat_template.jinja there (data.tokenizer: another directory)"},
    OtherKey{"chosen_key", "", "rows are recognised by their columns; data.columns: {chosen: NAME}"},
    OtherKey{"compile", "", kFused},
    OtherKey{"compile.enable", "", kFused},
    OtherKey{"critic_pretrain", "", "not here: grpo needs no critic"},
    OtherKey{"dataloader_num_workers", "", "not needed: the next step is read and planned beside the one that runs"},
    OtherKey{"dataset_kwargs", "", "rows are recognised by their columns; data.columns renames them"},
    OtherKey{"dataset_split", "", "not here: data are files; name them in data.path"},
    OtherKey{"dataset_text_field", "", "rows are recognised by their columns; data.columns: {text: NAME}"},
    OtherKey{"ddp_backend", "", "not needed: MPI on the host, NCCL between GPUs (comm.transport)"},
    OtherKey{"deepspeed", "", kAlwaysSharded},
    OtherKey{"disable_dropout", "", "not needed: nothing drops but adapters with adapter.lora_dropout"},
    OtherKey{"distributed_backend", "", "not needed: MPI on the host, NCCL between GPUs (comm.transport)"},
    OtherKey{"eval_packing", "", kPacks},
    OtherKey{"expert_model_parallel_size", "", "not here yet: there are no models with experts"},
    OtherKey{"expert_parallel_degree", "", "not here yet: there are no models with experts"},
    OtherKey{"flash_attention", "", kOurAttention},
    OtherKey{"flash_attn", "", kOurAttention},
    OtherKey{"formatting_func", "", "rows are recognised by their columns; data.columns renames and joins them"},
    OtherKey{"fp16", "", "not here: float16 needs loss scaling, which bfloat16 does not (model.dtype: bfloat16)"},
    OtherKey{"fp16_enabled", "",
             "not here: float16 needs loss scaling, which bfloat16 does not (model.dtype: bfloat16)"},
    OtherKey{"fsdp", "",
             "not needed: optimizer state and gradients are sharded over dp x cp (ZeRO-1), weights by parallel.tp and "
             "parallel.pp"},
    OtherKey{"fsdp_config", "",
             "not needed: optimizer state and gradients are sharded over dp x cp (ZeRO-1), weights by parallel.tp and "
             "parallel.pp"},
    OtherKey{"hidden_dropout", "", kNoDropout},
    OtherKey{"hub_model_id", "", "not here: final/ is a Hugging Face directory, which huggingface-cli upload takes"},
    OtherKey{"input_key", "", "rows are recognised by their columns; data.columns: {prompt: NAME}"},
    OtherKey{"label_smoothing_factor", "", kNoLossHasIt},
    OtherKey{"load_in_8bit", "", kNotQuantised},
    OtherKey{"loss_scale", "", "not needed: bfloat16 has the range of float32"},
    OtherKey{"model_init_kwargs", "", "not needed: config.json of model.path says it; model.dtype is a key"},
    OtherKey{"neat_packing", "", kPacks},
    OtherKey{"neftune_noise_alpha", "", "not here yet: embeddings get no noise"},
    OtherKey{"no_cuda", "", "it is model.device here: cpu"},
    OtherKey{"optim", "", kAdamW},
    OtherKey{"optim_args", "", kAdamW},
    OtherKey{"optimizer", "", kAdamW},
    OtherKey{"pack_sequences", "", kPacks},
    OtherKey{"packing", "", kPacks},
    OtherKey{"packing_strategy", "", kPacks},
    OtherKey{"pad_to_multiple_of", "", kNothingIsPadded},
    OtherKey{"pad_to_sequence_len", "", kNothingIsPadded},
    OtherKey{"padding_free", "", kNothingIsPadded},
    OtherKey{"parallelism", "", "the section is parallel here: dp, pp, cp, tp"},
    OtherKey{"prompt_key", "", "rows are recognised by their columns; data.columns: {prompt: NAME}"},
    OtherKey{"push_to_hub", "", "not here: final/ is a Hugging Face directory, which huggingface-cli upload takes"},
    OtherKey{"rejected_key", "", "rows are recognised by their columns; data.columns: {rejected: NAME}"},
    OtherKey{"remove_unused_columns", "", "not needed: columns that are not read are named in the log"},
    OtherKey{"reward_pretrain", "", "not here: rewards are rules, a program (reward.command) or the rows' own"},
    OtherKey{"rope_scaling", "", "the model's config.json says it"},
    OtherKey{"sample_packing", "", kPacks},
    OtherKey{"sequence_parallel", "", "not needed: parallel.tp is sequence parallel between the linears by itself"},
    OtherKey{"streaming", "", "not needed: tokens stay in a mapped cache (data.cache_dir)"},
    OtherKey{"sync_ref_model", "", "not here yet: the reference stays what it was"},
    OtherKey{"template", "", "the model directory's own chat template is read: put it into chat_template.jinja there"},
    OtherKey{
        "tf32", "",
        "not needed: float32 is computed as float32, and bfloat16 (model.dtype) is what tensor cores are used for"},
    OtherKey{"torch_compile", "", kFused},
    OtherKey{"trust_remote_code", "",
             "not needed: models are llama, qwen2 or qwen3 directories, nothing of theirs is run"},
    OtherKey{"use_cpu", "", "it is model.device here: cpu"},
    OtherKey{"use_distributed_optimizer", "", kAlwaysSharded},
    OtherKey{"use_dynamic_bsz", "", "not needed: the planner chooses packs of up to pack.max_tokens"},
    OtherKey{"use_flash_attn", "", kOurAttention},
    OtherKey{"use_liger_kernel", "", "not needed: the kernels are ours, and the head never holds all logits"},
    OtherKey{"use_remove_padding", "", kNothingIsPadded},
    OtherKey{"use_vllm", "", kOwnEngine},
    OtherKey{"zero_stage", "", kAlwaysSharded},
};

/// A value that other systems write for ours. `ours` "": refused with `words`.
struct OtherValue {
  std::string_view key, theirs, ours, words;
};

constexpr std::string_view kNoFloat16 =
    "float16 is not here: it needs loss scaling, which bfloat16 does not; use bfloat16";

constexpr std::array kOtherValues = {
    OtherValue{"model.dtype", "bf16", "bfloat16", ""},
    OtherValue{"model.dtype", "torch.bfloat16", "bfloat16", ""},
    OtherValue{"model.dtype", "fp32", "float32", ""},
    OtherValue{"model.dtype", "float", "float32", ""},
    OtherValue{"model.dtype", "torch.float32", "float32", ""},
    OtherValue{"model.dtype", "fp64", "float64", ""},
    OtherValue{"model.dtype", "double", "float64", ""},
    OtherValue{"model.dtype", "fp16", "", kNoFloat16},
    OtherValue{"model.dtype", "float16", "", kNoFloat16},
    OtherValue{"model.dtype", "half", "", kNoFloat16},
    OtherValue{"model.dtype", "auto", "", "name it: float32 (the default) or bfloat16"},
    OtherValue{"train.final_dtype", "bf16", "bfloat16", ""},
    OtherValue{"train.final_dtype", "fp32", "float32", ""},
    OtherValue{"train.final_dtype", "float", "float32", ""},
    OtherValue{"train.final_dtype", "fp16", "", kNoFloat16},
    OtherValue{"train.final_dtype", "float16", "", kNoFloat16},
    OtherValue{"method", "rm", "reward", ""},
    OtherValue{"method", "reward_model", "reward", ""},
    OtherValue{"method", "reward_trainer", "reward", ""},
    OtherValue{"method", "process_reward", "prm", ""},
    OtherValue{"method", "ipo", "", "method: dpo with loss.loss_type: ipo"},
    OtherValue{"method", "simpo", "", "method: cpo with loss.loss_type: simpo and loss.cpo_alpha: 0"},
    OtherValue{"loss.loss_type", "aot_pair", "aot_unpaired", ""},
    OtherValue{"loss.loss_type", "kto_pair", "", "method: kto, with a row an answer"},
    OtherValue{"parallel.schedule", "1F1B", "1f1b", ""},
    OtherValue{"parallel.schedule", "Interleaved1F1B", "interleaved", ""},
    OtherValue{"parallel.schedule", "ZBH1", "zb-h1", ""},
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

const OtherKey* other_key(std::string_view name) {
  for (const std::string_view asked : {name, last_part(name)}) {
    const auto found =
        std::find_if(kOtherKeys.begin(), kOtherKeys.end(), [&](const OtherKey& one) { return one.theirs == asked; });
    if (found != kOtherKeys.end()) return &*found;
  }
  return nullptr;
}

std::string answer(const OtherKey& key) {
  if (key.ours.empty()) return std::string(key.words);
  return text("it is ", key.ours, " here", key.words.empty() ? "" : ": ", key.words);
}

std::string_view nearest(std::string_view name) {
  const std::string_view leaf = last_part(name);
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

std::string hint(std::string_view name) {
  if (const OtherKey* other = other_key(name)) return answer(*other);
  for (const ConfigKey& key : keys())
    if (key.leaf() == last_part(name)) return text("it is ", key.name, " here");
  const std::string_view meant = nearest(name);
  return meant.empty() ? "--help lists all keys" : text("did you mean ", meant, "?");
}

}  // namespace

std::string unknown_key(std::string_view name) { return text("unknown key '", name, "'; ", hint(normal(name))); }

OurValue our_value(std::string_view key, const std::string& value) {
  for (const OtherValue& other : kOtherValues)
    if (other.key == key && other.theirs == value) return {std::string(other.ours), std::string(other.words)};
  return {value, ""};
}

std::string other_names_text() {
  std::string out = "Names of other trainers, and what they are here:\n";
  for (const OtherKey& key : kOtherKeys) out += text("  ", key.theirs, ": ", answer(key), "\n");
  return out;
}

}  // namespace fpdist::config
