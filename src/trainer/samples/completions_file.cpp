#include "src/trainer/samples/completions_file.hpp"

#include <map>
#include <nlohmann/json.hpp>
#include <optional>
#include <sstream>
#include <utility>
#include <vector>

#include "fpdist/comm/slow_work.hpp"
#include "fpdist/core/error.hpp"
#include "src/comm/gather_parts.hpp"
#include "src/core/index.hpp"
#include "src/files/files.hpp"
#include "src/files/folders.hpp"

namespace fpdist::trainer {

void write_completions(const std::string& output_dir, int64_t step, const Judged& judged,
                       std::span<const std::string> names, std::span<const data::Group> groups, comm::World& world) {
  using Json = nlohmann::ordered_json;
  std::vector<const data::Sample*> samples;
  for (const data::Group& group : groups)
    for (const data::Sample& sample : group.sample) samples.push_back(&sample);
  std::string lines;  // each behind its sample's number
  for (size_t i = 0; i < judged.own.size(); ++i) {
    const rewards::JudgedText& one = judged.own[i];
    const size_t number = judged.own_sample[i];
    const data::Sample& sample = *samples[number];
    Json line{{"step", step},
              {"prompt", Json::parse(one.row->prompt)},
              {"completion", one.text},
              {"finish_reason", one.finish_reason}};
    if (sample.prefix_length > 0) line["prefix_length"] = sample.prefix_length;
    for (size_t f = 0; f < names.size(); ++f) {
      const std::optional<double>& value = judged.value[f][number];
      line[names[f]] = value ? Json(*value) : Json(nullptr);
    }
    line["reward"] = sample.reward ? Json(*sample.reward) : Json(nullptr);
    line["advantage"] = sample.advantage.value_or(0);
    lines += text(number, " ", line.dump(-1, ' ', false, Json::error_handler_t::replace), "\n");
  }
  const std::vector<std::string> parts = comm::gather_texts(lines, world.communicator());
  if (world.rank() != 0) return;
  std::map<size_t, std::string> in_order;
  for (const std::string& part : parts) {
    std::istringstream numbered(part);
    size_t number = 0;
    for (std::string line; numbered >> number && std::getline(numbered.ignore(), line);) in_order[number] = line;
  }
  std::string all;
  for (const auto& [number, line] : in_order) all += line + "\n";
  const comm::SlowWork slow(world.communicator(), "writing completions");
  const std::string folder = output_dir + "/completions";
  files::make_folder(folder);
  files::write(text(folder, "/step-", step, ".jsonl"), all);
}

}  // namespace fpdist::trainer
