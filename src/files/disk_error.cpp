#include "src/files/disk_error.hpp"

#include <cerrno>
#include <cstring>

#include "fpdist/core/error.hpp"

namespace fpdist::files {

void throw_disk_error(const std::string& path, const char* doing) {
  const int reason = errno;
  const bool is_full = reason == ENOSPC || reason == EDQUOT || reason == EFBIG;
  throw DiskError(text("cannot write ", path, ": ", doing, std::strerror(reason),
                       is_full ? ": is the disk full? free space or choose another output folder"
                               : ": check the path and its permissions, or choose another output folder"));
}

}  // namespace fpdist::files
