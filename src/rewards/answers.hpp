#pragma once
// rewards (private): answers in texts.

#include <optional>
#include <string>
#include <string_view>

namespace fpdist::rewards {

/// Without blanks and line ends around it.
std::string_view trimmed(std::string_view text);

/// A decimal in one spelling: sign, digits without leading zeros, fraction without trailing ones; commas between digits
/// and a dollar sign are left out. Nothing where it is no number.
std::optional<std::string> decimal(std::string_view text);

/// Behind the last "####" of a text, as decimal() spells it.
std::optional<std::string> marked_number(std::string_view text);
/// The last number of the last 300 characters.
std::optional<std::string> last_number(std::string_view text);

/// What the last \boxed{...} (or \fbox{...}) holds, its braces balanced.
std::optional<std::string_view> boxed(std::string_view text);
/// An expression without what MATH's checkers overlook: blanks, \left and \right, \!, $, \text{...} around units,
/// \dfrac and \tfrac for \frac, \frac12 and 1/2 for \frac{1}{2}, a leading "x=", degrees, percent, a trailing dot.
std::string normal_expression(std::string_view text);

}  // namespace fpdist::rewards
