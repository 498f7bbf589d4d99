#include "src/trainer/gather_groups.hpp"

#include <ATen/ATen.h>

#include <algorithm>
#include <numeric>
#include <optional>
#include <span>
#include <vector>

#include "src/core/index.hpp"

namespace fpdist::trainer {
namespace {

/// Groups as two runs of numbers.
struct Flat {
  std::vector<int64_t> integers;
  std::vector<double> reals;
};

void put(Flat& out, const std::vector<int32_t>& values) {
  out.integers.push_back(static_cast<int64_t>(values.size()));
  out.integers.insert(out.integers.end(), values.begin(), values.end());
}
void put(Flat& out, const std::vector<double>& values) {
  out.integers.push_back(static_cast<int64_t>(values.size()));
  out.reals.insert(out.reals.end(), values.begin(), values.end());
}
void put(Flat& out, const std::optional<double>& value) {
  out.integers.push_back(value.has_value());
  out.reals.push_back(value.value_or(0.0));
}

Flat flatten(std::span<const data::Group> groups) {
  Flat out;
  for (const data::Group& group : groups) {
    put(out, group.margin);
    out.integers.push_back(static_cast<int64_t>(group.sample.size()));
    for (const data::Sample& sample : group.sample) {
      out.integers.push_back(sample.prompt_length), out.integers.push_back(sample.truncated);
      put(out, sample.token), put(out, sample.target);
      put(out, sample.old_logp), put(out, sample.ref_logp);
      put(out, sample.reward), put(out, sample.advantage);
    }
  }
  return out;
}

class FlatReader {
 public:
  FlatReader(std::span<const int64_t> integers, std::span<const double> reals) : integers_(integers), reals_(reals) {}
  bool done() const { return integers_.empty(); }
  int64_t integer() { return take(integers_, 1).front(); }
  void get(std::vector<int32_t>& values) {
    for (const int64_t value : take(integers_, size())) values.push_back(static_cast<int32_t>(value));
  }
  void get(std::vector<double>& values) {
    const auto all = take(reals_, size());
    values.assign(all.begin(), all.end());
  }
  void get(std::optional<double>& value) {
    const bool is_given = integer() != 0;
    const double given = take(reals_, 1).front();
    if (is_given) value = given;
  }

 private:
  size_t size() { return index(integer()); }
  template <typename T>
  static std::span<const T> take(std::span<const T>& from, size_t count) {
    const auto taken = from.first(count);
    from = from.subspan(count);
    return taken;
  }
  std::span<const int64_t> integers_;
  std::span<const double> reals_;
};

std::vector<data::Group> unflatten(FlatReader reader) {
  std::vector<data::Group> groups;
  while (!reader.done()) {
    data::Group& group = groups.emplace_back();
    group.id = static_cast<int64_t>(groups.size() - 1);
    reader.get(group.margin);
    group.sample.resize(index(reader.integer()));
    for (data::Sample& sample : group.sample) {
      sample.prompt_length = static_cast<int32_t>(reader.integer());
      sample.truncated = reader.integer() != 0;
      reader.get(sample.token), reader.get(sample.target);
      reader.get(sample.old_logp), reader.get(sample.ref_logp);
      reader.get(sample.reward), reader.get(sample.advantage);
    }
  }
  return groups;
}

/// Every rank's run, rank after rank.
template <typename T>
at::Tensor gather(const std::vector<T>& own, at::ScalarType dtype, comm::Communicator& world) {
  std::vector<int64_t> counts(index(world.size()), 1);
  at::Tensor sizes = at::empty({world.size()}, at::kLong);
  world.all_gather_v(at::full({1}, static_cast<int64_t>(own.size()), at::kLong), sizes, counts);
  std::copy_n(sizes.const_data_ptr<int64_t>(), counts.size(), counts.begin());
  const at::Tensor mine = at::empty({static_cast<int64_t>(own.size())}, dtype);
  std::copy(own.begin(), own.end(), mine.mutable_data_ptr<T>());
  at::Tensor all = at::empty({std::accumulate(counts.begin(), counts.end(), int64_t{0})}, dtype);
  world.all_gather_v(mine, all, counts);
  return all;
}

}  // namespace

std::vector<data::Group> gather_groups(std::span<const data::Group> own, comm::Communicator& world) {
  const Flat mine = flatten(own);
  const at::Tensor integers = gather(mine.integers, at::kLong, world), reals = gather(mine.reals, at::kDouble, world);
  return unflatten({{integers.const_data_ptr<int64_t>(), index(integers.numel())},
                    {reals.const_data_ptr<double>(), index(reals.numel())}});
}

}  // namespace fpdist::trainer
