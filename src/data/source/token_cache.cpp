// The file: a head of fixed size, a record a group, the index (where a record begins and its checksum), what else is
// known of the data set. Numbers as this machine writes them, which the head says.

#include "src/data/source/token_cache.hpp"

#include <algorithm>
#include <cstring>
#include <optional>
#include <span>
#include <string_view>
#include <type_traits>
#include <utility>

#include "fpdist/core/error.hpp"
#include "src/core/index.hpp"
#include "src/data/fields.hpp"
#include "src/files/files.hpp"

namespace fpdist::data {
namespace {

constexpr char kMagic[8] = {'F', 'P', 'T', 'O', 'K', 'E', 'N', 'S'};
constexpr uint32_t kVersion = 4, kEndian = 0x01020304;
constexpr size_t kBuffer = size_t{4} << 20;
constexpr const char* kDamaged = " is damaged: remove the file, it is made again";
constexpr const char* kNotUnderstood = "a record of the token cache is not understood";

struct CacheHead {
  char magic[8];
  uint32_t version, endian;
  Digest key, index_sum, facts_sum, head_sum;  // head_sum: of this with head_sum 0
  uint64_t bytes, groups, index, facts;
};
static_assert(std::is_trivially_copyable_v<CacheHead> && sizeof(CacheHead) == 112);

struct IndexEntry {
  uint64_t begin, sum;
};

Digest sum_of(std::string_view bytes) { return Checksum().add(bytes.data(), bytes.size()).value(); }

Digest sum_of(CacheHead head) {
  head.head_sum = {};
  return Checksum().add(&head, sizeof head).value();
}

/// Fields to bytes.
class FieldWriter {
 public:
  template <typename T>
  void operator()(const T& value) {
    if constexpr (std::is_arithmetic_v<T> || std::is_enum_v<T>) {
      bytes.append(reinterpret_cast<const char*>(&value), sizeof value);
    } else {
      (*this)(static_cast<uint64_t>(value.size()));
      for (const auto& one : value) (*this)(one);
    }
  }
  template <typename T>
  requires std::is_arithmetic_v<T>
  void operator()(const std::vector<T>& values) {
    (*this)(static_cast<uint64_t>(values.size()));
    bytes.append(reinterpret_cast<const char*>(values.data()), values.size() * sizeof(T));
  }
  void operator()(const std::string& value) {
    (*this)(static_cast<uint64_t>(value.size()));
    bytes.append(value);
  }
  void operator()(const std::optional<double>& value) { (*this)(value.has_value()), (*this)(value.value_or(0.0)); }
  void operator()(const RowPlace& place) { (*this)(place.file), (*this)(place.line); }
  void operator()(const SaidLine& said) { (*this)(said.level), (*this)(said.line); }
  std::string bytes;
};

/// And back. Checksums were right: what does not fit is a fault of ours, and still no read beyond the end.
class FieldReader {
 public:
  explicit FieldReader(std::string_view bytes) : rest_(bytes) {}
  template <typename T>
  void operator()(T& value) {
    if constexpr (std::is_same_v<T, bool>) {
      const auto byte = static_cast<unsigned char>(*take(1));
      check<DataError>(byte <= 1, kNotUnderstood);
      value = byte == 1;
    } else if constexpr (std::is_arithmetic_v<T> || std::is_enum_v<T>) {
      std::memcpy(&value, take(sizeof value), sizeof value);
    } else {
      value.resize(count());
      for (auto& one : value) (*this)(one);
    }
  }
  template <typename T>
  requires std::is_arithmetic_v<T>
  void operator()(std::vector<T>& values) {
    const std::string_view bytes = run(sizeof(T));
    values.resize(bytes.size() / sizeof(T));
    if (!bytes.empty()) std::memcpy(values.data(), bytes.data(), bytes.size());
  }
  void operator()(std::string& value) { value = run(1); }
  /// A run of numbers of so many bytes each, where it lies.
  std::string_view run(size_t bytes_each) {
    const size_t bytes = count(bytes_each) * bytes_each;
    return {take(bytes), bytes};
  }
  void operator()(std::optional<double>& value) {
    bool has = false;
    double number = 0;
    (*this)(has), (*this)(number);
    if (has) value = number;
  }
  void operator()(RowPlace& place) { (*this)(place.file), (*this)(place.line); }
  void operator()(SaidLine& said) { (*this)(said.level), (*this)(said.line); }

 private:
  size_t count(size_t bytes_each = 1) {
    uint64_t number = 0;
    (*this)(number);
    check<DataError>(number <= rest_.size() / bytes_each, kNotUnderstood);
    return index(number);
  }
  const char* take(size_t bytes) {
    check<DataError>(bytes <= rest_.size(), kNotUnderstood);
    const char* at = rest_.data();
    rest_.remove_prefix(bytes);
    return at;
  }
  std::string_view rest_;
};

/// Calls visit for everything of a data set but its groups.
template <typename DatasetOrConst, typename Visit>
void each_fact(DatasetOrConst& dataset, Visit& visit) {
  visit(dataset.place), visit(dataset.file), visit(dataset.entry), visit(dataset.unit), visit(dataset.skipped);
  visit(dataset.dropped_rows), visit(dataset.truncated_samples), visit(dataset.differing_prompts);
  visit(dataset.max_token_id);
}

std::string record_of(const Group& group) {
  FieldWriter put;
  each_field_of_group(group, [&](const char*, const auto& field) { put(field); });
  put(static_cast<uint64_t>(group.sample.size()));
  for (const Sample& sample : group.sample)
    each_field_of_sample(sample, [&](const char*, const auto& field) { put(field); });
  return std::move(put.bytes);
}

}  // namespace

struct CacheWriter::Impl {
  files::AtomicFile file;
  CacheHead head;
  std::vector<IndexEntry> entries = {};
  std::string buffer = {};  // of records

  void flush() {
    file.append(buffer.data(), buffer.size());
    buffer.clear();
  }
};

CacheWriter::CacheWriter(const std::string& path, const Digest& key)
    : impl_(new Impl{.file = files::AtomicFile(path),
                     .head = {.magic = {},
                              .version = kVersion,
                              .endian = kEndian,
                              .key = key,
                              .index_sum = {},
                              .facts_sum = {},
                              .head_sum = {},
                              .bytes = 0,
                              .groups = 0,
                              .index = sizeof(CacheHead),
                              .facts = 0}}) {
  std::memcpy(impl_->head.magic, kMagic, sizeof kMagic);
  impl_->file.append(&impl_->head, sizeof(CacheHead));
}
CacheWriter::~CacheWriter() = default;

void CacheWriter::add(const Group& group) {
  const std::string record = record_of(group);
  impl_->entries.push_back({impl_->head.index, sum_of(record).low});
  impl_->head.index += record.size();
  impl_->buffer += record;
  if (impl_->buffer.size() >= kBuffer) impl_->flush();
}

void CacheWriter::finish(const Dataset& dataset, const std::vector<SaidLine>& said) {
  auto& [file, head, entries, buffer] = *impl_;
  impl_->flush();
  FieldWriter facts;
  each_fact(dataset, facts), facts(said);
  const std::string_view entry_bytes(reinterpret_cast<const char*>(entries.data()),
                                     entries.size() * sizeof(IndexEntry));
  head.groups = entries.size();
  head.facts = head.index + entry_bytes.size(), head.bytes = head.facts + facts.bytes.size();
  head.index_sum = sum_of(entry_bytes), head.facts_sum = sum_of(facts.bytes), head.head_sum = sum_of(head);
  file.append(entry_bytes.data(), entry_bytes.size());
  file.append(facts.bytes.data(), facts.bytes.size());
  file.write_at(0, &head, sizeof head);
  file.commit();
}

TokenCache::TokenCache(const std::string& path, const Digest& key) : path_(path), file_(path) {
  const auto require = [&](bool good, const char* what) {
    check<DataError>(good, path, ": ", what, ": remove the file, it is made again");
  };
  const std::string_view bytes = file_.bytes();
  CacheHead head{};
  require(bytes.size() >= sizeof head, "is cut short");
  std::memcpy(&head, bytes.data(), sizeof head);
  require(std::memcmp(head.magic, kMagic, sizeof kMagic) == 0, "is no token cache");
  require(head.version == kVersion && head.endian == kEndian, "is a token cache of another version or machine");
  require(head.head_sum == sum_of(head), "is damaged");
  require(head.bytes == bytes.size(), "is cut short");
  require(head.key == key, "is of other data");
  require(sizeof head <= head.index && head.index <= head.facts && head.facts <= bytes.size(), "is damaged");
  const std::string_view entries = bytes.substr(head.index, head.facts - head.index), facts = bytes.substr(head.facts);
  require(entries.size() % sizeof(IndexEntry) == 0 && entries.size() / sizeof(IndexEntry) == head.groups &&
              sum_of(entries) == head.index_sum && sum_of(facts) == head.facts_sum,
          "is damaged");
  groups_ = static_cast<int64_t>(head.groups), index_ = head.index;
  FieldReader get(facts);
  each_fact(facts_, get), get(said_);
  const auto is_of_a_file = [&](const RowPlace& place) {
    return place.file >= 0 && place.file < std::ssize(facts_.file);
  };
  require(facts_.place.size() == head.groups && facts_.entry.size() == facts_.file.size() &&
              std::all_of(facts_.place.begin(), facts_.place.end(), is_of_a_file),
          "is damaged");
}

/// A group's bytes, and the checksum that they should have.
struct TokenCache::Record {
  std::string_view bytes;
  uint64_t sum;
};

TokenCache::Record TokenCache::record(int64_t id) const {
  check<DataError>(id >= 0 && id < groups_, path_, ": has no group ", id);
  const char* entries = file_.bytes().data() + index_ + index(id) * sizeof(IndexEntry);
  IndexEntry entry{}, next{.begin = index_, .sum = 0};
  std::memcpy(&entry, entries, sizeof entry);
  if (id + 1 < groups_) std::memcpy(&next, entries + sizeof entry, sizeof next);
  check<DataError>(entry.begin <= next.begin && next.begin <= index_, path_, ": group ", id, kDamaged);
  return {file_.bytes().substr(entry.begin, next.begin - entry.begin), entry.sum};
}

Group TokenCache::group(int64_t id) const {
  const Record record = this->record(id);
  check<DataError>(sum_of(record.bytes).low == record.sum, path_, ": group ", id, kDamaged);
  FieldReader get(record.bytes);
  Group group;
  group.id = id;
  each_field_of_group(group, [&](const char*, auto& field) { get(field); });
  uint64_t samples = 0;
  get(samples);
  check<DataError>(samples <= record.bytes.size(), path_, ": group ", id, kDamaged);
  group.sample.resize(index(samples));
  for (Sample& sample : group.sample) each_field_of_sample(sample, [&](const char*, auto& field) { get(field); });
  return group;
}

std::optional<std::string_view> TokenCache::first_tokens(int64_t id) const {
  FieldReader get(record(id).bytes);
  Group group;
  each_field_of_group(group, [&](const char*, auto& field) { get(field); });
  uint64_t samples = 0;
  get(samples);
  return samples == 0 ? std::string_view() : get.run(sizeof(int32_t));  // a sample's first field
}

Dataset TokenCache::dataset() const {
  Dataset all = facts_;
  for (int64_t id = 0; id < groups_; ++id) all.group.push_back(group(id));
  return all;
}

}  // namespace fpdist::data
