// The port of the mapper in the environment, as the programs beside it take it.
#ifndef EVERMAP_TOOLS_PORT_VARIABLE_H_
#define EVERMAP_TOOLS_PORT_VARIABLE_H_

#include <string_view>

namespace evermap {

inline constexpr char kPortVariable[] = "ERL_EPMD_PORT";

// Leaves of kPortVariable in this process's environment the number that atoi(3) takes from it, as epmd
// does, and warns on standard error, in the name of `program`, when something else follows it. What
// begins with no number is left as it is. Before the command line is parsed and there are threads.
void TakePortVariableAsAtoi(std::string_view program);

}  // namespace evermap

#endif  // EVERMAP_TOOLS_PORT_VARIABLE_H_
