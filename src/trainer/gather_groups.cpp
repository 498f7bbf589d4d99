#include "src/trainer/gather_groups.hpp"

#include <ATen/ATen.h>

#include <algorithm>
#include <optional>
#include <span>
#include <vector>

#include "src/comm/gather_parts.hpp"
#include "src/core/index.hpp"
#include "src/data/fields.hpp"

namespace fpdist::trainer {
namespace {

/// Groups as two runs of numbers.
struct Flat {
  std::vector<int64_t> integers;
  std::vector<double> reals;
};

void put(Flat& out, int32_t value) { out.integers.push_back(value); }
void put(Flat& out, const std::vector<int32_t>& values) {
  out.integers.push_back(static_cast<int64_t>(values.size()));
  out.integers.insert(out.integers.end(), values.begin(), values.end());
}
void put(Flat& out, const std::vector<double>& values) {
  out.integers.push_back(static_cast<int64_t>(values.size()));
  out.reals.insert(out.reals.end(), values.begin(), values.end());
}
void put(Flat& out, const std::vector<float>& values) {
  out.integers.push_back(static_cast<int64_t>(values.size()));
  out.reals.insert(out.reals.end(), values.begin(), values.end());
}
void put(Flat& out, const std::optional<double>& value) {
  out.integers.push_back(value.has_value());
  out.reals.push_back(value.value_or(0.0));
}

Flat flatten(std::span<const data::Group> groups) {
  Flat out;
  const auto put_field = [&](const char*, const auto& field) { put(out, field); };
  for (const data::Group& group : groups) {
    data::each_field_of_group(group, put_field);
    out.integers.push_back(static_cast<int64_t>(group.sample.size()));
    for (const data::Sample& sample : group.sample) data::each_field_of_sample(sample, put_field);
  }
  return out;
}

class FlatReader {
 public:
  FlatReader(std::span<const int64_t> integers, std::span<const double> reals) : integers_(integers), reals_(reals) {}
  bool done() const { return integers_.empty(); }
  int64_t integer() { return take(integers_, 1).front(); }
  void get(bool& value) { value = integer() != 0; }
  void get(int32_t& value) { value = static_cast<int32_t>(integer()); }
  void get(std::vector<int32_t>& values) {
    for (const int64_t value : take(integers_, size())) values.push_back(static_cast<int32_t>(value));
  }
  void get(std::vector<double>& values) {
    const auto all = take(reals_, size());
    values.assign(all.begin(), all.end());
  }
  void get(std::vector<float>& values) {
    for (const double value : take(reals_, size())) values.push_back(static_cast<float>(value));
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
  const auto get_field = [&](const char*, auto& field) { reader.get(field); };
  while (!reader.done()) {
    data::Group& group = groups.emplace_back();
    group.id = static_cast<int64_t>(groups.size() - 1);
    data::each_field_of_group(group, get_field);
    group.sample.resize(index(reader.integer()));
    for (data::Sample& sample : group.sample) data::each_field_of_sample(sample, get_field);
  }
  return groups;
}

/// Every rank's run, rank after rank.
template <typename T>
at::Tensor gather(const std::vector<T>& own, at::ScalarType dtype, comm::Communicator& world) {
  const at::Tensor mine = at::empty({static_cast<int64_t>(own.size())}, dtype);
  std::copy(own.begin(), own.end(), mine.mutable_data_ptr<T>());
  return comm::gather_parts(mine, world).all;
}

}  // namespace

std::vector<data::Group> gather_groups(std::span<const data::Group> own, comm::Communicator& world) {
  const Flat mine = flatten(own);
  const at::Tensor integers = gather(mine.integers, at::kLong, world), reals = gather(mine.reals, at::kDouble, world);
  return unflatten({{integers.const_data_ptr<int64_t>(), index(integers.numel())},
                    {reals.const_data_ptr<double>(), index(reals.numel())}});
}

}  // namespace fpdist::trainer
