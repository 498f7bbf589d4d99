#pragma once
// core: errors. Every failure that a user can meet is an fpdist::Error whose text names the place and the cure.
// The library throws and never exits; src/main/ catches once and turns `exit_code()` into the process's status.

#include <sstream>
#include <stdexcept>
#include <string>
#include <string_view>

namespace fpdist {

/// Process exit codes (launchers produce 1, 110, 124, 134, 137, 139 and 143 themselves, so those are avoided).
enum class ExitCode {
  kDone = 0,
  kUsage = 2,       ///< command line or config
  kData = 3,        ///< a data file or row
  kModelFiles = 4,  ///< checkpoint or model files missing, corrupt or incompatible
  kNumerics = 5,    ///< NaN or Inf, or `pack.verify_steps` found a difference
  kOutOfMemory = 6,
  kDisk = 7,      ///< disk full or I/O error while writing
  kPeer = 8,      ///< a peer was lost, diverged or timed out
  kStopped = 75,  ///< saved and stopped on request
};

/// Root of every exception that the library throws on purpose.
class Error : public std::runtime_error {
 public:
  Error(ExitCode code, const std::string& what) : std::runtime_error(what), code_(code) {}
  ExitCode exit_code() const noexcept { return code_; }

 private:
  ExitCode code_;
};

#define FPDIST_DEFINE_ERROR(Name, code)                                     \
  class Name : public Error {                                               \
   public:                                                                  \
    explicit Name(const std::string& what) : Error(ExitCode::code, what) {} \
  }
FPDIST_DEFINE_ERROR(ConfigError, kUsage);          ///< config, command line, unsupported combination
FPDIST_DEFINE_ERROR(DataError, kData);             ///< data row; text starts with file:line:byte
FPDIST_DEFINE_ERROR(ModelFileError, kModelFiles);  ///< model directory, safetensors, config.json
FPDIST_DEFINE_ERROR(NumericsError, kNumerics);     ///< NaN/Inf, failed verification
FPDIST_DEFINE_ERROR(OutOfMemoryError, kOutOfMemory);
FPDIST_DEFINE_ERROR(DiskError, kDisk);    ///< a write, fsync or rename that failed
FPDIST_DEFINE_ERROR(CommError, kPeer);    ///< collective failed, timed out or mismatched
FPDIST_DEFINE_ERROR(ShapeError, kUsage);  ///< a caller's tensor has the wrong shape, dtype or device
#undef FPDIST_DEFINE_ERROR

/// Concatenates its arguments with operator<<: text("row ", 3, " of ", n).
template <typename... Parts>
std::string text(const Parts&... parts) {
  std::ostringstream out;
  (out << ... << parts);
  return out.str();
}

/// Throws ErrorType with the given parts unless `condition` holds.
template <typename ErrorType = ShapeError, typename... Parts>
void check(bool condition, const Parts&... parts) {
  if (!condition) [[unlikely]]
    throw ErrorType(text(parts...));
}

}  // namespace fpdist
