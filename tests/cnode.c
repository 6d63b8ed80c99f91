/*
 * A C node made with Erlang's own ei library, to see that such nodes work with the mapper.
 *
 *   cnode NAME COOKIE
 *
 * listens on a free port of the loopback interface, registers as NAME@localhost with the mapper on
 * ERL_EPMD_PORT, prints "registered PORT" and answers net_adm:ping/1 until its standard input ends.
 * Exit code 1 and a line on standard error when something fails.
 */
#include <arpa/inet.h>
#include <ei.h>
#include <poll.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

enum { kPollPauseMs = 50, kAcceptTimeoutMs = 10000, kReceiveTimeoutMs = 10 };

static int Fail(const char* what) {
  fprintf(stderr, "cnode: %s: error %d\n", what, erl_errno);
  return 1;
}

/* True once our standard input has ended: whoever started us wants us to end. */
static int InputEnded(void) {
  struct pollfd input = {.fd = STDIN_FILENO, .events = POLLIN};
  if (poll(&input, 1, 0) <= 0) return 0;
  char discarded[64];
  return read(STDIN_FILENO, discarded, sizeof discarded) <= 0;
}

/*
 * Answers {'$gen_call', {From, Tag}, {is_auth, Node}}, which is what net_adm:ping/1 sends to
 * net_kernel, with {Tag, yes}. The tag is any term; it is sent back byte for byte.
 */
static void Answer(int connection, const ei_x_buff* message) {
  int index = 0;
  int version = 0;
  int arity = 0;
  char atom[MAXATOMLEN];
  erlang_pid from;
  if (ei_decode_version(message->buff, &index, &version) != 0) return;
  if (ei_decode_tuple_header(message->buff, &index, &arity) != 0 || arity != 3) return;
  if (ei_decode_atom(message->buff, &index, atom) != 0 || strcmp(atom, "$gen_call") != 0) return;
  if (ei_decode_tuple_header(message->buff, &index, &arity) != 0 || arity != 2) return;
  if (ei_decode_pid(message->buff, &index, &from) != 0) return;
  int tag = index;
  if (ei_skip_term(message->buff, &index) != 0) return;

  ei_x_buff reply;
  ei_x_new_with_version(&reply);
  ei_x_encode_tuple_header(&reply, 2);
  ei_x_append_buf(&reply, message->buff + tag, index - tag);
  ei_x_encode_atom(&reply, "yes");
  ei_send(connection, &from, reply.buff, reply.index);
  ei_x_free(&reply);
}

/* Serves one node until it goes away or our input ends. */
static void Serve(int connection) {
  ei_x_buff message;
  ei_x_new(&message);
  while (!InputEnded()) {
    erlang_msg header;
    message.index = 0;
    int got = ei_xreceive_msg_tmo(connection, &header, &message, kReceiveTimeoutMs);
    if (got == ERL_ERROR) {
      if (erl_errno == ETIMEDOUT) continue;
      break;
    }
    if (got == ERL_MSG) Answer(connection, &message);
  }
  ei_x_free(&message);
}

int main(int argc, char** argv) {
  if (argc != 3) {
    fprintf(stderr, "usage: cnode NAME COOKIE\n");
    return 1;
  }
  ei_cnode node;
  struct in_addr loopback = {.s_addr = htonl(INADDR_LOOPBACK)};
  char full_name[MAXNODELEN + 1];
  snprintf(full_name, sizeof full_name, "%s@localhost", argv[1]);
  if (ei_init() != 0) return Fail("ei_init");
  if (ei_connect_xinit(&node, "localhost", argv[1], full_name, &loopback, argv[2], 0) < 0)
    return Fail("ei_connect_xinit");

  int port = 0; /* any */
  int listener = ei_xlisten(&node, &loopback, &port, 5);
  if (listener < 0) return Fail("ei_xlisten");
  int registration = ei_publish(&node, port);
  if (registration < 0) return Fail("ei_publish");
  printf("registered %d\n", port);
  fflush(stdout);

  while (!InputEnded()) {
    struct pollfd waiting = {.fd = listener, .events = POLLIN};
    if (poll(&waiting, 1, kPollPauseMs) <= 0) continue;
    ErlConnect peer;
    int connection = ei_accept_tmo(&node, listener, &peer, kAcceptTimeoutMs);
    if (connection < 0) {
      Fail("ei_accept_tmo");
      continue;
    }
    Serve(connection);
    close(connection);
  }
  close(registration);
  close(listener);
  return 0;
}
