#include "src/trainer/watch/event_records.hpp"

#include <array>
#include <bit>
#include <cstring>

namespace fpdist::trainer {
namespace {

constexpr std::array<uint32_t, 256> crc_table() {
  std::array<uint32_t, 256> table{};
  for (uint32_t byte = 0; byte < 256; ++byte) {
    uint32_t crc = byte;
    for (int bit = 0; bit < 8; ++bit) crc = (crc >> 1) ^ (crc & 1 ? 0x82f63b78u : 0u);  // Castagnoli, reflected
    table[byte] = crc;
  }
  return table;
}

/// The number's own bytes, lowest first.
template <typename T>
std::string bytes_of(T value) {
  static_assert(std::endian::native == std::endian::little);
  std::string bytes(sizeof value, '\0');
  std::memcpy(bytes.data(), &value, sizeof value);
  return bytes;
}

std::string varint(uint64_t value) {
  std::string bytes;
  for (; value >= 128; value >>= 7) bytes += static_cast<char>(value | 128);
  return bytes + static_cast<char>(value);
}

// Fields of messages: number and kind of what follows, then that.
std::string integer_field(uint32_t field, int64_t value) {
  return varint(field << 3) + varint(static_cast<uint64_t>(value));
}
std::string double_field(uint32_t field, double value) { return varint(field << 3 | 1) + bytes_of(value); }
std::string float_field(uint32_t field, float value) { return varint(field << 3 | 5) + bytes_of(value); }
std::string bytes_field(uint32_t field, std::string_view value) {
  return varint(field << 3 | 2) + varint(value.size()) + std::string(value);
}

// Field numbers, and values of enums, of the messages that are written.
namespace event {
constexpr uint32_t kWallTime = 1, kStep = 2, kFileVersion = 3, kSummary = 5, kSessionLog = 7;
}
namespace session_log {
constexpr uint32_t kStatus = 1;
constexpr int64_t kStart = 1;
}  // namespace session_log
namespace summary {
constexpr uint32_t kValue = 1, kTag = 1, kSimpleValue = 2, kTensor = 8, kMetadata = 9, kPluginData = 1, kPluginName = 1;
}
namespace tensor {
constexpr uint32_t kDtype = 1, kShape = 2, kStringValue = 8, kDim = 2, kSize = 1;
constexpr int64_t kString = 7;
}  // namespace tensor

/// `what`: the one field that says what the event is. A step of 0 is not written.
std::string record(double time, int64_t step, const std::string& what) {
  const std::string message =
      double_field(event::kWallTime, time) + (step == 0 ? "" : integer_field(event::kStep, step)) + what;
  const std::string length = bytes_of<uint64_t>(message.size());
  return length + bytes_of(masked_crc32c(length)) + message + bytes_of(masked_crc32c(message));
}

}  // namespace

uint32_t masked_crc32c(std::string_view bytes) {
  static constexpr std::array<uint32_t, 256> kTable = crc_table();
  uint32_t crc = ~0u;
  for (const char byte : bytes) crc = (crc >> 8) ^ kTable[(crc ^ static_cast<uint8_t>(byte)) & 0xff];
  return std::rotr(~crc, 15) + 0xa282ead8u;
}

std::string version_record(double time) { return record(time, 0, bytes_field(event::kFileVersion, "brain.Event:2")); }

std::string restart_record(double time, int64_t first_step) {
  return record(time, first_step,
                bytes_field(event::kSessionLog, integer_field(session_log::kStatus, session_log::kStart)));
}

std::string scalars_record(double time, int64_t step, const std::map<std::string, double>& values) {
  std::string all;
  for (const auto& [tag, value] : values)
    all += bytes_field(summary::kValue,
                       bytes_field(summary::kTag, tag) + float_field(summary::kSimpleValue, static_cast<float>(value)));
  return record(time, step, bytes_field(event::kSummary, all));
}

std::string text_record(double time, std::string_view tag, std::string_view markdown) {
  const std::string shape = bytes_field(tensor::kDim, integer_field(tensor::kSize, 1));
  const std::string strings = integer_field(tensor::kDtype, tensor::kString) + bytes_field(tensor::kShape, shape) +
                              bytes_field(tensor::kStringValue, markdown);
  const std::string plugin = bytes_field(summary::kPluginData, bytes_field(summary::kPluginName, "text"));
  const std::string value = bytes_field(summary::kTag, tag) + bytes_field(summary::kTensor, strings) +
                            bytes_field(summary::kMetadata, plugin);
  return record(time, 0, bytes_field(event::kSummary, bytes_field(summary::kValue, value)));
}

}  // namespace fpdist::trainer
