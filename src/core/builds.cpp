#include "src/core/builds.hpp"

#include <elf.h>
#include <link.h>

#include <algorithm>
#include <array>
#include <cstddef>
#include <cstdint>
#include <cstring>
#include <filesystem>
#include <string_view>
#include <system_error>

namespace fpdist {
namespace {

constexpr size_t aligned(size_t bytes) { return (bytes + 3) / 4 * 4; }

/// The mark among a segment's notes; "" where it is not there.
std::string id_in(const char* notes, size_t bytes) {
  constexpr std::string_view kOwner("GNU\0", 4);
  while (bytes >= sizeof(ElfW(Nhdr))) {
    ElfW(Nhdr) note;
    std::memcpy(&note, notes, sizeof note);
    const size_t whole = sizeof note + aligned(note.n_namesz) + aligned(note.n_descsz);
    if (whole > bytes) break;
    const std::string_view owner(notes + sizeof note, note.n_namesz);
    if (note.n_type == NT_GNU_BUILD_ID && owner == kOwner) {
      std::string id;
      for (size_t i = 0; i < note.n_descsz; ++i) {
        const auto byte = static_cast<unsigned char>(notes[sizeof note + aligned(note.n_namesz) + i]);
        id += {"0123456789abcdef"[byte >> 4], "0123456789abcdef"[byte & 15]};
      }
      return id;
    }
    notes += whole, bytes -= whole;
  }
  return "";
}

/// What every rank has loaded, with a GPU or without: libraries of CUDA are opened only where a driver is found.
constexpr std::array<std::string_view, 3> kEverywhere{"libfpdist.so", "libtorch_cpu.so", "libc10.so"};

int add_build(dl_phdr_info* loaded, size_t, void* builds) {
  auto& all = *static_cast<std::vector<Build>*>(builds);
  const bool is_program = all.empty();  // it comes first, and without a name
  std::error_code unknown;
  const std::filesystem::path path =
      is_program ? std::filesystem::read_symlink("/proc/self/exe", unknown) : std::filesystem::path(loaded->dlpi_name);
  Build build{.name = path.filename().string(), .id = ""};
  if (!is_program && std::find(kEverywhere.begin(), kEverywhere.end(), build.name) == kEverywhere.end()) return 0;
  for (int i = 0; i < loaded->dlpi_phnum && build.id.empty(); ++i)
    if (const auto& segment = loaded->dlpi_phdr[i]; segment.p_type == PT_NOTE)
      build.id = id_in(reinterpret_cast<const char*>(loaded->dlpi_addr + segment.p_vaddr), segment.p_memsz);
  all.push_back(std::move(build));
  return 0;
}

}  // namespace

std::vector<Build> loaded_builds() {
  std::vector<Build> builds;
  dl_iterate_phdr(add_build, &builds);
  std::sort(builds.begin() + 1, builds.end(), [](const Build& a, const Build& b) { return a.name < b.name; });
  return builds;
}

}  // namespace fpdist
