#include "src/trainer/samples/completions_file.hpp"

#include <nlohmann/json.hpp>
#include <optional>
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
  std::string lines;
  for (size_t i = 0; i < judged.own.size(); ++i) {
    const rewards::JudgedText& one = judged.own[i];
    const data::Sample& sample = *samples[judged.first_own + i];
    Json line{{"step", step},
              {"prompt", Json::parse(one.row->prompt)},
              {"completion", one.text},
              {"finish_reason", one.finish_reason}};
    for (size_t f = 0; f < names.size(); ++f) {
      const std::optional<double>& value = judged.value[f][judged.first_own + i];
      line[names[f]] = value ? Json(*value) : Json(nullptr);
    }
    line["reward"] = sample.reward ? Json(*sample.reward) : Json(nullptr);
    line["advantage"] = sample.advantage.value_or(0);
    lines += line.dump(-1, ' ', false, Json::error_handler_t::replace) + "\n";
  }
  std::string all;
  for (const std::string& part : comm::gather_texts(lines, world.communicator())) all += part;
  if (world.rank() != 0) return;
  const comm::SlowWork slow(world.communicator(), "writing completions");
  const std::string folder = output_dir + "/completions";
  files::make_folder(folder);
  files::write(text(folder, "/step-", step, ".jsonl"), all);
}

}  // namespace fpdist::trainer
