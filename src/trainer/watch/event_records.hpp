#pragma once
// trainer (private): the bytes of TensorBoard's event files. A file is a sequence of records; a record is a length, an
// Event message of protocol buffers, and a checksum of each. Pure: the same arguments, the same bytes, which are those
// of TensorBoard's own writer.
// Source: tensorflow/core/lib/io/record_writer, tensorflow/core/util/event.proto,
// tensorflow/core/framework/summary.proto.

#include <cstdint>
#include <map>
#include <string>
#include <string_view>

namespace fpdist::trainer {

/// CRC-32C, rotated and shifted as records want it, so that a checksum of bytes that hold checksums stays good.
uint32_t masked_crc32c(std::string_view bytes);

/// Each is one whole record; `time`: seconds since 1970.
/// The first of every file.
std::string version_record(double time);
/// What other files of the folder, or this one above, say of `first_step` and later ones is void.
std::string restart_record(double time, int64_t first_step);
/// Curves: a number each, as float32.
std::string scalars_record(double time, int64_t step, const std::map<std::string, double>& values);
/// Markdown, at step 0.
std::string text_record(double time, std::string_view tag, std::string_view markdown);

}  // namespace fpdist::trainer
