// The files beside this one as strings of the program, written by CMake.
#pragma once

namespace dfmoa::launch {

extern const char* const kPageStyle;   ///< page.css
extern const char* const kPageScript;  ///< drawing.js and page.js

}  // namespace dfmoa::launch
