#pragma once
// arch: adapters, which linears of a model have a low-rank product beside their weight, or a trained prefix, and the
// weights of these.
// Source: Hu et al., "LoRA: low-rank adaptation of large language models" (2021); Kalajdzievski, "A rank stabilization
// scaling factor for fine-tuning with LoRA" (2023); Liu et al., "DoRA: weight-decomposed low-rank adaptation" (2024).

#include <cstdint>
#include <string>
#include <string_view>
#include <utility>
#include <vector>

#include "fpdist/arch/ntk.hpp"
#include "fpdist/arch/options.hpp"
#include "fpdist/arch/prefix.hpp"
#include "fpdist/core/head.hpp"

namespace fpdist::arch {

struct Model;

using NamedShape = std::pair<std::string, std::vector<int64_t>>;

/// Names of A, B and DoRA's magnitude, behind that of the linear.
inline constexpr const char *kLowRankA = ".lora_A.weight", *kLowRankB = ".lora_B.weight",
                            *kMagnitude = ".lora_magnitude_vector";

/// Whether a parameter of this name is an adapter's.
bool is_of_adapter(std::string_view parameter);

/// y + scale * (x A^T) B^T beside the linear `module`; A [rank,in], B [out,rank]. With DoRA the sum without bias is
/// multiplied by m / |W + scale B A|, of each row; m [out] begins as |W|.
struct LowRank {
  std::string module;  ///< Hugging Face name of the linear: model.layers.0.self_attn.q_proj
  int64_t in = 0, out = 0, rank = 0;
  double scale = 0;

  int64_t layer() const;
};

struct Adapter {
  /// How A and B begin: A uniform in 1/sqrt(in) and B 0; A normal with deviation 1/rank and B 0; both uniform, each in
  /// the root of what it sums over.
  enum class Init { kUniform, kGaussian, kBothUniform } init = Init::kUniform;
  bool has_magnitude = false;   ///< DoRA
  bool is_float32 = false;      ///< A, B and all that is trained, beside a bfloat16 model too (PEFT's autocast)
  double dropout = 0;           ///< of what the products see, in training
  std::vector<LowRank> linear;  ///< in the order of the model's weights; empty: there is none
  Prefix prefix = {};           ///< beside linears: none
  bool has_ntk = false;         ///< NTK-Attention, and nothing else
  std::string json = {};        ///< of the adapter_config.json that it goes on from; "": of none

  bool is_there() const { return !linear.empty() || prefix.is_there() || has_ntk; }
  /// The linear's, or null.
  const LowRank* of(const std::string& module) const;
};

/// The adapter that the options ask for; none where they ask for none. Throws ConfigError for an entry that names no
/// linear of the model, with the nearest that there is.
Adapter adapter_of(const Model& model, Head head, const AdapterOptions& options);

/// Every weight that is trained, in Hugging Face order: those of the adapter and a reward model's score head, or
/// parameters() where there is no adapter.
std::vector<NamedShape> trained_parameters(const Model& model, Head head);

/// Elements of all of them together.
int64_t trained_count(const Model& model, Head head);

}  // namespace fpdist::arch
