// The conversation between our processes, and with systemd: every word and every variable of it.
//
// Those who speak: the *mapper*; its *store*, which holds duplicates of its sockets for the next
// mapper, and is either systemd or our *keeper*; and in an upgrade the *predecessor*, which is the
// mapper that is replaced, and the *successor*, which is the mapper that it starts for that.
//
// A message is lines KEY=VALUE with descriptors beside them (notify.h). A word below that contains
// '=' is a whole line; one without it is a key, and the sender adds the value. Words that systemd
// has as well mean here what they mean in sd_notify(3).
//
//   word          from         to              meaning
//   kStore        mapper       store           hold the descriptors that come along
//   kStore        predecessor  successor       take the nodes' connections that come along
//   kStoreName    mapper       store           the name of these descriptors, if they are sockets
//   kFileName     mapper       store           the name of the one that comes along, if it is a file of
//                                              the claim to the registry (registry/claim.h)
//   kForget       mapper       store           let the file of the name go
//   kBarrier      mapper       store           close what comes along when all before it is done
//   kReadySets    mapper       keeper          hold my ready sets (loop/ready_set.h), which come along,
//                                              in place of those that you hold
//   kStore        keeper       mapper          take the nodes' connections that come along
//   kYours        keeper       mapper          these were all connections that I hold; close what comes
//                                              along, the ready sets of a mapper that has died
//   kFiles        predecessor  successor       the files of the claim come along
//   kTakesFiles   successor    predecessor     I have taken them (before kPrepared)
//   kTakesFiles   mapper       keeper          so would my program (beside kMainPid)
//   kReady        mapper       store           connections are accepted
//   kReady        successor    predecessor     the commit: the nodes are mine from here on
//   kMainPid      mapper       store           the process of this id is the mapper from now on
//   kProgram      mapper       keeper          the file that the mapper was started from
//   kStopping     mapper       store           I end because I was told to: start no other
//   kTooLate      keeper       mapper          another mapper is about to be started: end
//   kRelieve      newcomer     keeper          what have you got? (process/keeper_relief.h)
//   kAttended     keeper       newcomer        somebody looks after me
//   kLater        keeper       newcomer        no mapper serves now
//   kKeeperPid    keeper       newcomer        my process id, as I see it (beside kMainPid)
//   kRelieved     newcomer     keeper          I have taken your place
//   kPrepared     successor    predecessor     I have checked myself and could take over
//   kYours        predecessor  successor       the registry is at rest and is yours
//   kServing      successor    predecessor     connections are accepted again
//   kFailure      successor    predecessor     why I give up; a text of one line
//   kNotExecuted  new process  its first link  its program cannot be executed: errno, 3 digits
//
// A variable of the environment tells a process that is executed what it finds open:
//
//   variable          set by               for        value
//   kListenFds        all, systemd         all        how many descriptors are passed, from 3 on
//   kListenPid        all, systemd         all        the id of the process that they are for
//   kListenFdNames    systemd              nobody     their names: the kernel tells what they are
//   kKeeperLink       keeper, predecessor  mapper     the number of its link to the keeper
//   kConnectionsLink  keeper               mapper     the number of the link through which connections come
//   kPredecessorLink  predecessor          successor  the number of its link to the predecessor
//   kOffersFiles      predecessor          successor  1: kFiles is the first message of that link
//   kWatcherPid       predecessor          successor  its watcher's process id (process/watcher.h)
//   kMapperLink       mapper, keeper       keeper     the number of its link to the mapper
//   kMapperPid        mapper, keeper       keeper     the process id of that mapper
//   kIsStray          mapper, keeper       keeper     1: nobody attends it (process/keeper_relief.h)
//   kNotifySocket     systemd              mapper     the address of the socket that systemd reads
//
// host/own_program.h has one more, EVERMAP_BINARY. The variables that begin with EVERMAP_ count
// only together with a kListenPid that names the process itself, since whatever that process starts
// inherits them as well.
#ifndef EVERMAP_DAEMON_CUSTODY_WORDS_H_
#define EVERMAP_DAEMON_CUSTODY_WORDS_H_

namespace evermap {

namespace words {

inline constexpr char kStore[] = "FDSTORE=1";
// One letter, since systemd lists the names of all descriptors that it holds in one variable of the
// environment (LISTEN_FDNAMES), which may have at most 128 KiB.
inline constexpr char kStoreName[] = "FDNAME=n";
inline constexpr char kFileName[] = "FDNAME";
inline constexpr char kForget[] = "FDSTOREREMOVE=1";
inline constexpr char kBarrier[] = "BARRIER=1";
inline constexpr char kReadySets[] = "EVERMAP=ready sets";
inline constexpr char kFiles[] = "EVERMAP=files";
inline constexpr char kTakesFiles[] = "EVERMAP_FILES=1";
inline constexpr char kReady[] = "READY=1";
inline constexpr char kMainPid[] = "MAINPID";
inline constexpr char kProgram[] = "EVERMAP_PROGRAM";
inline constexpr char kStopping[] = "STOPPING=1";
inline constexpr char kTooLate[] = "EVERMAP=too late";
inline constexpr char kRelieve[] = "EVERMAP=relieve";
inline constexpr char kAttended[] = "EVERMAP=attended";
inline constexpr char kLater[] = "EVERMAP=later";
inline constexpr char kKeeperPid[] = "KEEPERPID";
inline constexpr char kRelieved[] = "EVERMAP=relieved";
inline constexpr char kPrepared[] = "EVERMAP=prepared";
inline constexpr char kYours[] = "EVERMAP=yours";
inline constexpr char kServing[] = "EVERMAP=serving";
inline constexpr char kFailure[] = "STATUS";
inline constexpr char kNotExecuted[] = "ERRNO";

}  // namespace words

namespace variables {

inline constexpr char kListenFds[] = "LISTEN_FDS";
inline constexpr char kListenPid[] = "LISTEN_PID";
inline constexpr char kListenFdNames[] = "LISTEN_FDNAMES";
inline constexpr char kKeeperLink[] = "EVERMAP_KEEPER";
inline constexpr char kConnectionsLink[] = "EVERMAP_CONNECTIONS";
inline constexpr char kPredecessorLink[] = "EVERMAP_PREDECESSOR";
inline constexpr char kOffersFiles[] = "EVERMAP_OFFERS_FILES";
inline constexpr char kWatcherPid[] = "EVERMAP_WATCHER";
inline constexpr char kMapperLink[] = "EVERMAP_MAPPER";
inline constexpr char kMapperPid[] = "EVERMAP_MAPPER_PID";
inline constexpr char kIsStray[] = "EVERMAP_IS_STRAY";
inline constexpr char kNotifySocket[] = "NOTIFY_SOCKET";

// The number of the first of kListenFds descriptors (SD_LISTEN_FDS_START in sd_listen_fds(3)).
inline constexpr int kPassedFdsStart = 3;

// A process that is started inherits no variable that begins with one of these: what they say of
// its starter would be wrong of it.
inline constexpr char kListenPrefix[] = "LISTEN_";
inline constexpr char kOwnPrefix[] = "EVERMAP_";

}  // namespace variables

}  // namespace evermap

#endif  // EVERMAP_DAEMON_CUSTODY_WORDS_H_
