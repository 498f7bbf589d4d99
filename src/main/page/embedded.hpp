#pragma once
// main: files of the source tree as they were when this was built (src/main/CMakeLists.txt).

#include <string_view>

namespace fpdist::main_program::embedded {

extern const std::string_view kStyle;         ///< page/style.css
extern const std::string_view kReportStyle;   ///< report/report.css
extern const std::string_view kReportScript;  ///< report/report.js

}  // namespace fpdist::main_program::embedded
