// Which unit the path of a control group names. The paths are those of systemd 239 to 257, on a host
// and in containers.
#include "daemon/systemd/control_group.h"

#include "gtest/gtest.h"

namespace evermap {
namespace {

TEST(ControlGroupTest, SystemdsOwnHierarchyComesBeforeTheUnifiedOne) {
  EXPECT_EQ(ControlGroupIn("0::/system.slice/a.service\n"), "/system.slice/a.service");
  EXPECT_EQ(ControlGroupIn("12:pids:/x\n1:name=systemd:/system.slice/a.service\n0::/\n"),
            "/system.slice/a.service");
  EXPECT_EQ(ControlGroupIn("0::/other\n1:name=systemd:/own"), "/own");
  EXPECT_EQ(ControlGroupIn("12:pids:/x\n"), "");
  EXPECT_EQ(ControlGroupIn(""), "");
  EXPECT_EQ(ControlGroupIn("3:pids:/a:name=systemd:/b\n"), "");
}

TEST(ControlGroupTest, AUnitOfTheSystem) {
  EXPECT_EQ(SystemUnitOf("/system.slice/rabbitmq-server.service"), "rabbitmq-server.service");
  EXPECT_EQ(SystemUnitOf("/system.slice/system-chat.slice/chat@1.service/sub/group"),
            "chat@1.service");
  EXPECT_EQ(SystemUnitOf("/user.slice/user-0.slice/session-3.scope"), "session-3.scope");
  EXPECT_EQ(SystemUnitOf("/machine.slice/libpod-12.scope/container"), "libpod-12.scope");
  EXPECT_EQ(SystemUnitOf("/init.scope"), "init.scope");
  EXPECT_EQ(SystemUnitOf("/_cgroup.service"), "cgroup.service");
  EXPECT_EQ(SystemUnitOf("/system.slice"), "");
  EXPECT_EQ(SystemUnitOf("/"), "");
  EXPECT_EQ(SystemUnitOf(""), "");
  // A user's unit is in one of the system, which is the user's manager.
  EXPECT_EQ(SystemUnitOf("/user.slice/user-7.slice/user@7.service/app.slice/chat.service"),
            "user@7.service");
}

TEST(ControlGroupTest, AUnitOfAUser) {
  EXPECT_EQ(UserUnitOf("/user.slice/user-7.slice/user@7.service/app.slice/chat.service"),
            "chat.service");
  EXPECT_EQ(UserUnitOf("/user.slice/user-7.slice/user@7.service/chat.service"), "chat.service");
  EXPECT_EQ(UserUnitOf("/user.slice/user-7.slice/user@7.service/init.scope"), "init.scope");
  EXPECT_EQ(UserUnitOf("/user.slice/user-7.slice/user@7.service"), "");
  EXPECT_EQ(UserUnitOf("/system.slice/chat.service/app.slice/chat.service"), "");
  EXPECT_EQ(UserUnitOf("/user.slice/user-7.slice/session-3.scope"), "");
  EXPECT_EQ(UserUnitOf(""), "");
}

TEST(ControlGroupTest, AManagerInAContainersGroup) {
  EXPECT_EQ(BelowManager("/system.slice/a.service", "/init.scope"), "/system.slice/a.service");
  EXPECT_EQ(BelowManager("/system.slice/a.service", "/"), "/system.slice/a.service");
  EXPECT_EQ(BelowManager("/system.slice/a.service", ""), "/system.slice/a.service");
  EXPECT_EQ(BelowManager("/lxc/one/system.slice/a.service", "/lxc/one/init.scope"),
            "/system.slice/a.service");
  EXPECT_EQ(BelowManager("/lxc/one/system.slice/a.service", "/lxc/one"), "/system.slice/a.service");
  // Of another container.
  EXPECT_EQ(BelowManager("/lxc/one-more/a.service", "/lxc/one/init.scope"),
            "/lxc/one-more/a.service");
}

}  // namespace
}  // namespace evermap
