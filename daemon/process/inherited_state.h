// What a process inherits from whatever has started it, beside the descriptors that were passed on
// purpose (inheritance.h): each is put right here, or kept on purpose.
//
//   put right, since the starter's would make a mapper do something else than it should
//     standard streams       those that are closed lead to /dev/null: a socket that got number 0, 1 or 2
//                            would be read and written as one
//     other descriptors      closed: a pipe that stays open keeps somebody waiting at its other end
//     signal dispositions    all as by default: with SIGCHLD ignored no exit code can be waited for.
//                            SIGXFSZ is ignored: a file that may not grow is an error, not an end
//     signal mask            nothing is blocked but what a keeper and a mapper block at once: a signal of
//                            these that waits, as for a keeper that goes on as another program, is kept
//     alarm, timers          none: SIGALRM would end the process
//     umask                  022: the registry is for all to read, whoever starts the mapper
//     soft limits            raised to the hard ones: a shell's soft limits are for what people start in it.
//                            That of stacks is raised only if it is too little for threads, that of core
//                            dumps not at all: it is the administrator's affair
//     table of descriptors   made large at once, while there are no threads (host/descriptor_limit.h)
//     environment            variables of ours that are meant for another process do not count
//                            (inheritance.h)
//   kept on purpose
//     user, groups, capabilities, namespaces, control group, nice value, scheduling, cores, oom_score_adj,
//     parent's death signal  who starts the mapper decides about these
//     SIGQUIT                ignored by what a script starts in the background, as its terminal would reach it
//     directory              until -daemon leaves it: paths of options are relative to it
//     hard limits            what cannot be had is said where it is needed
//
// Thread safety: to be called before there are other threads.
#ifndef EVERMAP_DAEMON_PROCESS_INHERITED_STATE_H_
#define EVERMAP_DAEMON_PROCESS_INHERITED_STATE_H_

namespace evermap {

// The first line of the table alone: what a command needs, too.
void OpenStandardStreams();

// All of the table. `passed`: how many descriptors from 3 on were passed to this process. What the
// kernel refuses stays as it is, since nothing of it is worth not to serve.
void PutInheritedStateRight(unsigned passed);

}  // namespace evermap

#endif  // EVERMAP_DAEMON_PROCESS_INHERITED_STATE_H_
