#pragma once
// core: structures as lists of integers, which every transport carries. A structure lists its fields once, for both
// ways:
//   template <typename Archive, SameButConst<Point> P> void fields(Archive& archive, P& point) { archive(point.x,
//   point.y); }
// in its own namespace. Fields are integers, enumerations, vectors and structures of these.

#include <concepts>
#include <cstddef>
#include <cstdint>
#include <span>
#include <type_traits>
#include <vector>

#include "fpdist/core/error.hpp"

namespace fpdist {

template <typename T, typename Named>
concept SameButConst = std::same_as<std::remove_const_t<T>, Named>;

template <typename T>
concept OneInteger = std::integral<T> || std::is_enum_v<T>;

class IntegerWriter {
 public:
  template <typename... Fields>
  void operator()(const Fields&... each) {
    (put(each), ...);
  }
  const std::vector<int64_t>& words() const { return words_; }

 private:
  template <OneInteger T>
  void put(const T& value) {
    words_.push_back(static_cast<int64_t>(value));
  }
  template <typename T>
  void put(const std::vector<T>& all) {
    put(all.size());
    for (const T& one : all) put(one);
  }
  template <typename T>
  void put(const T& structure) {
    fields(*this, structure);
  }

  std::vector<int64_t> words_;
};

/// Throws CommError where the list ends early.
class IntegerReader {
 public:
  explicit IntegerReader(std::span<const int64_t> words) : left_(words) {}

  template <typename... Fields>
  void operator()(Fields&... each) {
    (take(each), ...);
  }
  bool is_done() const { return left_.empty(); }

 private:
  template <OneInteger T>
  void take(T& value) {
    check<CommError>(!left_.empty(), "a list of integers ends before what it holds does");
    value = static_cast<T>(left_.front());
    left_ = left_.subspan(1);
  }
  template <typename T>
  void take(std::vector<T>& all) {
    size_t size = 0;
    take(size);
    check<CommError>(size <= left_.size(), "a list of integers ends before what it holds does");
    all.resize(size);
    for (T& one : all) take(one);
  }
  template <typename T>
  void take(T& structure) {
    fields(*this, structure);
  }

  std::span<const int64_t> left_;
};

}  // namespace fpdist
