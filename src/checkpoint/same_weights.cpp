#include "src/checkpoint/same_weights.hpp"

#include <ATen/ATen.h>
#include <c10/core/ScalarType.h>
#include <unistd.h>

#include <algorithm>
#include <array>
#include <map>
#include <set>
#include <string>
#include <tuple>
#include <vector>

#include "fpdist/core/error.hpp"
#include "src/comm/agreement.hpp"
#include "src/comm/broadcast_text.hpp"
#include "src/comm/gather_parts.hpp"
#include "src/core/checksum.hpp"
#include "src/core/index.hpp"
#include "src/files/files.hpp"

namespace fpdist::checkpoint {
namespace {

constexpr int64_t kFields = 6;  // of a part that travels: tensor, dim, begin, size, and its checksum's two halves
using Part = std::tuple<int64_t, int64_t, int64_t, int64_t>;  // the first four

/// Of this machine since it was started: containers on it share it, machines do not.
std::string machine() {
  std::array<char, 256> name{};
  ::gethostname(name.data(), name.size() - 1);
  return name.data() + files::read("/proc/sys/kernel/random/boot_id", 64);
}

/// What tells the open files of a rank apart from those of others.
std::string files_of(const HfDirectory& directory) {
  std::set<std::string> open;
  for (const std::string& name : directory.names()) open.insert(directory.file_with(name).identity());
  std::string all = machine();
  for (const std::string& file : open) all += file + '\n';
  return all;
}

/// Nothing where nothing differs. Collective.
void refuse(const std::vector<comm::Difference>& differences, const HfDirectory& directory, const char* what,
            comm::Communicator& world) {
  if (differences.empty()) return;
  const std::string path = comm::broadcast_text(directory.path(), 0, world);  // in one spelling for all
  throw ModelFileError(text(path, " holds different ", what, " on the ranks' nodes:\n", comm::to_text(differences),
                            "\ncopy one of the models to every node"));
}

void check_same_tensors(const HfDirectory& directory, comm::Communicator& world) {
  std::vector<comm::Fact> facts;
  for (const std::string& name : directory.names()) {
    const TensorInfo& info = directory.file_with(name).tensors().at(name);
    facts.push_back({name, text(c10::toString(info.dtype), " ", at::IntArrayRef(info.shape))});
  }
  refuse(comm::find_differences(facts, world), directory, "tensors", world);
}

Digest digest_of(const HfDirectory& directory, const std::string& name, const Part& part) {
  const auto& [tensor, dim, begin, size] = part;
  const SafetensorsFile& file = directory.file_with(name);
  const auto& shape = file.tensors().at(name).shape;
  Checksum sum;
  const auto add = [&](const char* run, size_t bytes) { sum.add(run, bytes); };
  if (dim >= 0)
    file.visit_bytes(name, dim, begin, size, add);
  else if (shape.empty())
    sum.add(file.tensor(name).const_data_ptr(), file.tensor(name).nbytes());
  else
    file.visit_bytes(name, 0, 0, shape.front(), add);
  return sum.value();
}

/// Whether each rank has the same files open as rank 0. Collective.
std::vector<bool> have_first_files(const HfDirectory& directory, comm::Communicator& world) {
  const std::vector<std::string> files = comm::gather_texts(files_of(directory), world);
  std::vector<bool> same;
  for (const std::string& of_rank : files) same.push_back(of_rank == files.front());
  return same;
}

/// [parts, kFields] what this rank has read.
at::Tensor own_parts(const HfDirectory& directory, const std::vector<std::string>& names) {
  std::vector<int64_t> fields;
  for (const TensorPart& part : directory.parts_read()) {
    const int64_t tensor = std::lower_bound(names.begin(), names.end(), part.name) - names.begin();
    const Digest digest = digest_of(directory, part.name, {tensor, part.dim, part.begin, part.size});
    for (const int64_t field :
         {tensor, part.dim, part.begin, part.size, static_cast<int64_t>(digest.high), static_cast<int64_t>(digest.low)})
      fields.push_back(field);
  }
  return at::tensor(fields, at::kLong);
}

/// Checksums of these parts in rank 0's files, the work dealt out to all ranks that have them open. Collective.
at::Tensor first_digests(const HfDirectory& directory, const std::vector<std::string>& names,
                         const std::set<Part>& parts, const std::vector<bool>& has_first, comm::Communicator& world) {
  const auto own = index(world.rank());
  const auto workers = std::count(has_first.begin(), has_first.end(), true);
  const auto worker = std::count(has_first.begin(), has_first.begin() + world.rank(), true);
  at::Tensor digests = at::zeros({static_cast<int64_t>(parts.size()), 2}, at::kLong);
  int64_t* out = digests.mutable_data_ptr<int64_t>();
  int64_t number = 0;
  for (const Part& part : parts) {
    if (has_first[own] && number % workers == worker) {
      const Digest digest = digest_of(directory, names[index(std::get<0>(part))], part);
      out[2 * number] = static_cast<int64_t>(digest.high), out[2 * number + 1] = static_cast<int64_t>(digest.low);
    }
    ++number;
  }
  world.all_reduce(digests);
  return digests;
}

/// Tensors of which a rank has read other bytes than rank 0's files hold, and those ranks. Collective.
std::map<int64_t, std::set<int>> find_others(const HfDirectory& directory, const std::vector<std::string>& names,
                                             const std::vector<bool>& has_first, comm::Communicator& world) {
  const bool compares = !has_first[index(world.rank())];
  const auto [all, counts] =
      comm::gather_parts(compares ? own_parts(directory, names) : at::empty({0}, at::kLong), world);
  const int64_t* field = all.const_data_ptr<int64_t>();
  const auto part_at = [](const int64_t* row) { return Part{row[0], row[1], row[2], row[3]}; };
  std::set<Part> parts;
  for (const int64_t* row = field; row < field + all.numel(); row += kFields) parts.insert(part_at(row));
  const at::Tensor digests = first_digests(directory, names, parts, has_first, world);
  std::map<Part, const int64_t*> digest_of_first;
  const int64_t* next = digests.const_data_ptr<int64_t>();
  for (const Part& part : parts) digest_of_first[part] = next, next += 2;

  std::map<int64_t, std::set<int>> others;
  for (int rank = 0; rank < world.size(); ++rank)
    for (const int64_t* end = field + counts[index(rank)]; field < end; field += kFields)
      if (!std::equal(field + 4, field + kFields, digest_of_first.at(part_at(field)))) others[field[0]].insert(rank);
  return others;
}

}  // namespace

void check_same_weights(const HfDirectory& directory, comm::Communicator& world) {
  const std::vector<bool> has_first = have_first_files(directory, world);
  if (std::count(has_first.begin(), has_first.end(), false) == 0) return;
  check_same_tensors(directory, world);
  const std::vector<std::string> names = directory.names();
  std::vector<comm::Difference> differences;
  for (const auto& [tensor, ranks] : find_others(directory, names, has_first, world))
    differences.push_back(
        {.name = names[index(tensor)], .held = {{"values other than rank 0's", {ranks.begin(), ranks.end()}}}});
  refuse(differences, directory, "weights", world);
}

}  // namespace fpdist::checkpoint
