#pragma once
// Tests: event files of TensorBoard, read by rules of their own: a checksum bit by bit, messages field by field.

#include <gtest/gtest.h>

#include <bit>
#include <cstdint>
#include <cstring>
#include <map>
#include <stdexcept>
#include <string>
#include <string_view>
#include <vector>

namespace fpdist::test {

struct ReadEvent {
  double time = 0;
  int64_t step = 0;
  std::string version;  ///< of the file
  bool restarts = false;
  std::map<std::string, float> scalars;
  std::map<std::string, std::string> texts;
};

class EventReader {
 public:
  /// Throws std::runtime_error where a length, a checksum or a message is not as it must be.
  static std::vector<ReadEvent> read(std::string_view file) {
    std::vector<ReadEvent> events;
    while (!file.empty()) {
      const std::string_view length = take(file, 8);
      must(checksum(length) == fixed<uint32_t>(take(file, 4)), "checksum of a length");
      const std::string_view message = take(file, fixed<uint64_t>(length));
      must(checksum(message) == fixed<uint32_t>(take(file, 4)), "checksum of a message");
      events.push_back(event(message));
    }
    return events;
  }

 private:
  static void must(bool holds, const char* what) {
    if (!holds) throw std::runtime_error(what);
  }
  static std::string_view take(std::string_view& bytes, uint64_t count) {
    must(bytes.size() >= count, "end of file");
    const std::string_view taken = bytes.substr(0, count);
    bytes.remove_prefix(count);
    return taken;
  }
  template <typename T>
  static T fixed(std::string_view bytes) {
    T value{};
    must(bytes.size() == sizeof value, "size of a number");
    std::memcpy(&value, bytes.data(), sizeof value);
    return value;
  }
  static uint64_t varint(std::string_view& bytes) {
    uint64_t value = 0;
    for (int shift = 0;; shift += 7) {
      const auto byte = static_cast<uint8_t>(take(bytes, 1)[0]);
      value |= static_cast<uint64_t>(byte & 127) << shift;
      if (byte < 128) return value;
    }
  }
  static uint32_t checksum(std::string_view bytes) {
    uint32_t crc = ~0u;
    for (const char byte : bytes)
      for (int bit = 0; bit < 8; ++bit) {
        const uint32_t differs = (crc ^ (static_cast<uint8_t>(byte) >> bit)) & 1;
        crc = (crc >> 1) ^ (differs ? 0x82f63b78u : 0);
      }
    crc = ~crc;
    return ((crc >> 15) | (crc << 17)) + 0xa282ead8u;
  }

  /// `use(field, bytes, integer)` for every field of a message.
  template <typename Use>
  static void fields(std::string_view message, Use use) {
    while (!message.empty()) {
      const uint64_t key = varint(message), kind = key & 7;
      if (kind == 0) {
        use(key >> 3, std::string_view(), varint(message));
      } else {
        const uint64_t bytes = kind == 1 ? 8 : kind == 5 ? 4 : varint(message);
        must(kind == 1 || kind == 2 || kind == 5, "kind of a field");
        use(key >> 3, take(message, bytes), 0);
      }
    }
  }
  static ReadEvent event(std::string_view message) {
    ReadEvent read;
    fields(message, [&](uint64_t field, std::string_view bytes, uint64_t integer) {
      if (field == 1) read.time = fixed<double>(bytes);
      if (field == 2) read.step = static_cast<int64_t>(integer);
      if (field == 3) read.version = bytes;
      if (field == 5) fields(bytes, [&](uint64_t, std::string_view value, uint64_t) { add_value(value, read); });
      if (field == 7) fields(bytes, [&](uint64_t, std::string_view, uint64_t status) { read.restarts = status == 1; });
    });
    return read;
  }
  static void add_value(std::string_view value, ReadEvent& read) {
    std::string tag, words;
    bool is_scalar = false, is_text = false;
    float scalar = 0;
    fields(value, [&](uint64_t field, std::string_view bytes, uint64_t) {
      if (field == 1) tag = bytes;
      if (field == 2) is_scalar = true, scalar = fixed<float>(bytes);
      if (field == 8)
        fields(bytes, [&](uint64_t part, std::string_view inside, uint64_t) {
          if (part == 8) words = inside;
        });
      if (field == 9) is_text = bytes.ends_with("text");
    });
    must(is_scalar != is_text, "a value that is a number or a text");
    if (is_scalar) read.scalars[tag] = scalar;
    if (is_text) read.texts[tag] = words;
  }
};

}  // namespace fpdist::test
