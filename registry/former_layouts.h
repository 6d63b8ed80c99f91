// The layouts before the newest one: all that this code can read as they are and migrate from.
//
// When the layout changes, the one that was the newest is frozen as layout_vN.h and added here.
#ifndef EVERMAP_REGISTRY_FORMER_LAYOUTS_H_
#define EVERMAP_REGISTRY_FORMER_LAYOUTS_H_

#include <array>

#include "registry/layout_description.h"
#include "registry/layout_v1.h"
#include "registry/layout_v2.h"

namespace evermap::layout {

inline constexpr std::array kFormerLayouts = {&layout_v1::kDescription, &layout_v2::kDescription};

}  // namespace evermap::layout

#endif  // EVERMAP_REGISTRY_FORMER_LAYOUTS_H_
