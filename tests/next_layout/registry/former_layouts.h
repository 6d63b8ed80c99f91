// The layouts before the throw-away one: those of registry/former_layouts.h, and version 3.
#ifndef EVERMAP_REGISTRY_FORMER_LAYOUTS_H_
#define EVERMAP_REGISTRY_FORMER_LAYOUTS_H_

#include <array>

#include "registry/layout_description.h"
#include "registry/layout_v1.h"
#include "registry/layout_v2.h"
#include "registry/layout_v3.h"

namespace evermap::layout {

inline constexpr std::array kFormerLayouts = {&layout_v1::kDescription, &layout_v2::kDescription,
                                              &layout_v3::kDescription};

}  // namespace evermap::layout

#endif  // EVERMAP_REGISTRY_FORMER_LAYOUTS_H_
