// The canonical form of a Jinja text: equal forms print equal output.
#pragma once

#include <string>
#include <string_view>

namespace dfmoa::data {

/// Writes a template as one item a part: "%statement", "$expression", "=printed text". Blanks that
/// Jinja ignores, the kind of quotes, message.role for message['role'] and the difference between
/// text printed by an expression and text that stands outside are gone; white-space control is
/// applied as transformers sets it (trim_blocks, lstrip_blocks). Items end with kItemEnd.
/// Throws ContentError when a tag or a string is not closed.
[[nodiscard]] std::string jinja_form(std::string_view source);

inline constexpr char kItemEnd = '\x1F';

}  // namespace dfmoa::data
