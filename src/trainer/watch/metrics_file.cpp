#include "src/trainer/watch/metrics_file.hpp"

#include <cmath>

#include "fpdist/core/error.hpp"
#include "src/core/words.hpp"

namespace fpdist::trainer {

MetricsFile::MetricsFile(const std::string& path, files::AppendFile::Open open) : file_(path, open) {}

void MetricsFile::report(const StepMetrics& metrics) {
  std::string line = text("{\"step\": ", metrics.step);
  for (const auto& [name, value] : metrics.values)
    line += text(", \"", name, "\": ", std::isfinite(value) ? number("%.17g", value) : "null");
  file_.line(line + "}");
}

}  // namespace fpdist::trainer
