#pragma once
// tree_attention on a GPU: the mask as our own kernels take it and, for other people's, its levels as calls of a
// variable-length attention, with everything that they need on the device, made once per pack (or ring round) and used
// by all layers, forward and backward. Row numbers are on the CPU; nothing here waits for the device: indices go up
// through pinned memory.

#include <ATen/core/Tensor.h>

#include <cstdint>
#include <map>
#include <memory>
#include <mutex>
#include <optional>
#include <span>
#include <vector>

#include "fpdist/kernels/attention.hpp"
#include "kernels/tree_attention/decode/decode_tables.hpp"
#include "kernels/tree_attention/mask/attention_tiles.hpp"
#include "kernels/tree_attention/mask/levels.hpp"

namespace fpdist::kernels {

/// Where the rows of a call's segments lie in a whole tensor: a run of it, or gathered.
struct RowSet {
  int64_t first = 0, count = 0;  ///< rows in all; first: the run's first row, where it is one
  int64_t longest = 0;           ///< rows of the longest segment
  int64_t shortest = 0;
  at::Tensor index;   ///< [count] int64 on the device, ascending, each row once; undefined where the rows are one run
  at::Tensor offset;  ///< [segments + 1] int32 on the device: where each segment begins in the gathered rows

  at::Tensor select(const at::Tensor& whole) const;  ///< [count, ...], a view where the rows are one run
  /// whole[rows] = part and whole[rows] += part, part in any dtype. A row occurs once in a set, so every element has
  /// one writer and the bits do not depend on the order in which the device runs them, index_add_'s atomics or not.
  void put(at::Tensor& whole, const at::Tensor& part) const;
  void add(at::Tensor& whole, const at::Tensor& part) const;
};

/// One variable-length attention: segment i's queries see segment i's keys, all of them or, causal, those up to their
/// own place (then both have the same length).
struct VarlenCall {
  Level level;
  RowSet q, k;
};

class AttentionCalls {
 public:
  /// `capability`: of the device, 10 * major + minor, or a lower one, whose kernels are to run; 0 for none, which
  /// leaves plain matrix products. Throws ShapeError.
  AttentionCalls(const AttentionMask& mask, at::Device device, int64_t capability);
  /// Of a step that decodes: the forward alone, of queries each of which sees its own key or none of the others'.
  /// `runs`: of the mask's keys (find_runs). Tiles are made when first asked for.
  AttentionCalls(const AttentionMask& mask, std::span<const KeyRun> runs, at::Device device, int64_t capability);
  /// In the order in which they run. Laid out with the rest where our kernels do not run, else when first asked for: q
  /// is then of a dtype or a head size that they do not take.
  const std::vector<VarlenCall>& list() const;
  int64_t queries() const { return queries_; }
  int64_t keys() const { return keys_; }
  at::Device device() const { return device_; }
  int64_t capability() const { return capability_; }
  /// For our own kernels, on a GPU that they run on: compute capability 8.0.
  const std::optional<AttentionTiles>& tiles() const;
  /// Of a step that decodes, on such a GPU: for q of that shape, laid out once each; null where queries see one
  /// another.
  const DecodeTables* decoding(const DecodeShape& shape) const;

 private:
  /// What is laid out when it is first asked for.
  struct Later {
    std::once_flag calls, tiles;
    std::mutex mutex;
    std::map<DecodeShape, DecodeTables> decoding;
  };
  bool has_tiles() const;
  std::vector<VarlenCall> lay_out() const;
  AttentionMask mask_;
  std::vector<Piece> pieces_;  ///< of a step that decodes
  std::unique_ptr<Later> later_ = std::make_unique<Later>();
  mutable std::vector<VarlenCall> calls_;
  int64_t queries_ = 0, keys_ = 0;
  at::Device device_;
  int64_t capability_;
  mutable std::optional<AttentionTiles> tiles_;
};

}  // namespace fpdist::kernels
