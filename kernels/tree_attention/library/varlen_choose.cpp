#include "kernels/tree_attention/library/varlen.hpp"

namespace fpdist::kernels {
namespace {

/// Faults of cuDNN 9.19 and of its ATen operators in torch 2.11. Each line has its test.
bool cudnn_is_sound(const BackendQuestion& question) {
  // The ragged operator builds its graph anew at every call, and its backward takes the head size for the length of the
  // longest sequence: only the dense one is used.
  if (question.segments != 1) return false;
  // On Hopper its deterministic backward needs a workspace of queries x keys before cuDNN 9.25, and ATen never asks for
  // it: two runs may differ.
  if (question.deterministic) return false;
  // A lone query with a very negative lse (cudnn-frontend 1072).
  if (question.shortest_q == 1) return false;
  // NaN in dQ at lengths of 64 modulo 128 (pytorch 196678; reported with a mask, refused without one too).
  if (question.longest_q % 128 == 64 || question.longest_k % 128 == 64) return false;
  // Above 128 the backward is slow or absent.
  return question.head_size <= 128;
}

}  // namespace

Backend choose_backend(const BackendQuestion& question) {
  // Float32 and float64 keep their precision only in plain products; FlashAttention 2 begins at sm_80, with heads of
  // whole 16-byte rows up to 256.
  const bool has_16_bits = question.dtype == at::kBFloat16 || question.dtype == at::kHalf;
  if (!has_16_bits || question.capability < 80 || question.head_size % 8 != 0 || question.head_size > 256)
    return Backend::kMath;
  return question.capability >= 90 && cudnn_is_sound(question) ? Backend::kCudnn : Backend::kFlash;
}

BackendQuestion question_of(const at::Tensor& q, const VarlenCall& call, int64_t capability, bool deterministic) {
  return {.dtype = q.scalar_type(),
          .head_size = q.size(2),
          .capability = capability,
          .deterministic = deterministic,
          .segments = static_cast<int64_t>(call.level.piece.size()),
          .shortest_q = call.q.shortest,
          .longest_q = call.q.longest,
          .longest_k = call.k.longest};
}

}  // namespace fpdist::kernels
