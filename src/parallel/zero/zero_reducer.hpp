#pragma once
// parallel: ZeRO-1 over the ranks that hold the same weights. The flat parameters are cut into buckets; each bucket's
// gradients are reduce-scattered as soon as the bucket has got its last gradient, each rank owns one equal contiguous
// piece of every bucket (pieces differ by at most one element, nothing is padded), updated values are gathered. All
// sums in ascending rank order. On an axis of one rank nothing is communicated. Source: Rajbhandari et al., "ZeRO:
// memory optimizations toward training trillion parameter models" (SC 2020).
//
// Values travel while the next pieces are updated, and on into the next forward (as Megatron-LM's overlap_param_gather
// does; device tensors only, gathers of the host are done when they have begun). Until a bucket is waited for, its
// values on this rank are old, new or half of each. Who must wait: a model's forward, ahead of each use, with need();
// every other reader with settle(), which FlatParameters::value() and finish() call by themselves.

#include <ATen/core/Tensor.h>

#include <cstdint>
#include <memory>
#include <span>
#include <unordered_map>
#include <vector>

#include "fpdist/comm/communicator.hpp"
#include "fpdist/ops/parameter.hpp"

namespace fpdist::parallel {

/// Elements [begin, end) of the flat buffers.
struct FlatRange {
  int64_t begin = 0, end = 0;
  int64_t size() const { return end - begin; }
};

/// What a piece holds of one parameter.
struct PieceOfParameter {
  size_t piece = 0, parameter = 0;
  FlatRange range;
};

class ZeroReducer {
 public:
  /// Both must outlive the reducer, the one that gathers these parameters' values. Parameters from number `late` of the
  /// flat order on are reduced last, in finish(): those whose gradients other ranks complete first. Not collective.
  ZeroReducer(ops::FlatParameters& parameters, comm::Communicator& axis, size_t late,
              int64_t bucket_elements = 1 << 22);
  /// Settles, unless an error unwinds: then what is under way keeps its memory (comm::Work).
  ~ZeroReducer();
  ZeroReducer(const ZeroReducer&) = delete;
  ZeroReducer& operator=(const ZeroReducer&) = delete;
  /// Own pieces, one a bucket, ascending.
  const std::vector<FlatRange>& pieces() const { return pieces_; }
  /// The same, cut where parameters begin and end; ascending.
  const std::vector<PieceOfParameter>& parts() const { return parts_; }

  /// The step's gradients begin anew.
  void begin();
  /// Collective on the axis, in the same order on every rank. These parameters have their last gradient: reduces every
  /// bucket that is whole now. Buckets go from the last to the first, the order in which backward completes them.
  void complete(std::span<const ops::ParameterPtr> parameters);
  /// Collective on the axis. Reduces the buckets that are left, the late ones after all others; settles the values, so
  /// that pieces may be updated.
  void finish();
  /// The own pieces of the summed gradients, views of the main-grad buffer, whose other elements keep this rank's own
  /// gradients. After finish().
  std::vector<at::Tensor> gradients() const;

  /// The order in which forward first reads the parameters, each once; flat order where it is not said. The same on
  /// every rank of the axis. Buckets are gathered in it.
  void set_order_of_use(std::span<const ops::ParameterPtr> parameters);
  /// Buckets (numbers of pieces()) in that order.
  const std::vector<size_t>& order_of_use() const { return order_of_use_; }
  /// Collective on the axis, for every bucket in order_of_use(). The own piece of this bucket of the flat value buffer
  /// is written, or queued to be: it begins to travel to all ranks. Not again before the bucket was waited for.
  void start_gather(size_t bucket);
  /// Not collective, as all below. Whether values of one of them have not been waited for.
  bool is_under_way(std::span<const ops::ParameterPtr> parameters) const;
  /// Waits as comm::Work does (device tensors: the current stream waits, the host goes on) for these parameters'
  /// values, or for all. Nothing where nothing is under way.
  void need(std::span<const ops::ParameterPtr> parameters);
  void settle();
  /// Collective on the axis. Every rank's pieces of the flat value buffer travel to all ranks: start_gather for all,
  /// settle.
  void gather_values();
  /// The same for the summed gradients: after it the whole main-grad buffer holds the sum.
  void gather_gradients();

 private:
  struct Bucket {
    FlatRange range;
    size_t first = 0, last = 0;  ///< parameters [first, last)
    std::vector<int64_t> counts;
    size_t missing = 0;
  };
  void add_bucket(size_t first, size_t last);
  void reduce_whole_buckets();
  void reduce(size_t bucket);
  std::unique_ptr<comm::Work> start_gather(at::Tensor& flat, size_t bucket);
  void wait_for_values(size_t bucket);

  ops::FlatParameters& parameters_;
  comm::Communicator& axis_;
  at::Tensor value_, main_grad_;                        ///< of parameters_, which would settle them
  int exceptions_ = 0;                                  ///< under way when the reducer was made
  std::vector<std::unique_ptr<comm::Work>> under_way_;  ///< sums that a device makes while backward goes on
  std::vector<Bucket> buckets_;                         ///< ascending; early ones first
  std::vector<FlatRange> pieces_;
  std::vector<PieceOfParameter> parts_;
  std::unordered_map<const ops::Parameter*, size_t> bucket_of_;
  std::vector<bool> done_;  ///< [parameters]
  std::unordered_map<const ops::Parameter*, size_t> number_of_;
  std::vector<size_t> order_of_use_;
  std::vector<std::unique_ptr<comm::Work>> gathers_;  ///< [buckets] of values; null: not under way
  size_t gathers_under_way_ = 0;
  size_t early_ = 0;  ///< buckets before the late ones
  size_t next_ = 0;   ///< early buckets not yet reduced: [0, next_)
};

}  // namespace fpdist::parallel
