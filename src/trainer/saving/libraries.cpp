#include "src/trainer/saving/libraries.hpp"

#include <ATen/Version.h>
#include <torch/csrc/api/include/torch/version.h>

#include "fpdist/core/error.hpp"
#include "src/comm/host/mpi_library.hpp"
#include "src/core/builds.hpp"

namespace fpdist::trainer {
namespace {

/// What follows `mark` in a line of `text`, up to a comma or the line's end.
std::string behind(const std::string& text, const std::string& mark) {
  const size_t found = text.find(mark);
  if (found == std::string::npos) return "";
  const size_t begin = found + mark.size();
  return text.substr(begin, text.find_first_of(",\n", begin) - begin);
}

}  // namespace

std::map<std::string, std::string> library_versions() {
  std::map<std::string, std::string> versions{{"torch", TORCH_VERSION}, {"cpu", at::get_cpu_capability()}};
  for (const Build& build : loaded_builds())
    if (build.name.starts_with("lib")) versions[build.name] = build.id;
  versions["blas"] = behind(at::show_config(), "BLAS_INFO=");
  versions["mkl"] = at::get_mkl_version(), versions["mkldnn"] = at::get_mkldnn_version();
  const std::string mpi = comm::mpi_library();
  versions["mpi"] = mpi.substr(0, mpi.find(','));
  return versions;
}

std::string changed_libraries(const std::map<std::string, std::string>& before) {
  std::string changed;
  for (const auto& [name, version] : library_versions())
    if (const auto found = before.find(name); found != before.end() && found->second != version)
      changed += text(changed.empty() ? "" : ", ", name, " ", found->second, " -> ", version);
  return changed;
}

}  // namespace fpdist::trainer
