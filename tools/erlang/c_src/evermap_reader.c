/* See evermap_reader.h. What the bytes mean, and the rules by which they are written and read, is said in
 * registry/layout.h of Evermap; L-1 to L-15 are its rules. The offsets below are those of layout version 3.
 *
 * Nothing read is trusted: each offset follows from the capacity, which is checked with the header's checksum, and
 * every loop has a bound. */
#ifndef _GNU_SOURCE
#define _GNU_SOURCE
#endif

#include "evermap_reader.h"

#include <assert.h>
#include <errno.h>
#include <fcntl.h>
#include <stdarg.h>
#include <stdatomic.h>
#include <stdbool.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/socket.h>
#include <sys/stat.h>
#include <unistd.h>

#ifndef SO_NETNS_COOKIE
#define SO_NETNS_COOKIE 71
#endif

#if __BYTE_ORDER__ != __ORDER_LITTLE_ENDIAN__
#error "registries are little-endian, and read on such machines only"
#endif

enum {
  LAYOUT_VERSION = 3,
  PAGE = 4096,
  HEADER_SIZE = PAGE,
  RECORD_SIZE = 256,
  BLOCK_SIZE = 2048,
  EXTENT_RECORDS = 256,
  EXTENT_BLOCKS = 32,
  EXTENT_SIZE = PAGE + EXTENT_RECORDS * RECORD_SIZE,
  OCCUPANCY_AT = 64,  /* in an extent of records */
  SLOTS_OF_WORD = 32, /* a word of occupancy has a bit for so many */
  OCCUPANCY_WORDS = EXTENT_RECORDS / SLOTS_OF_WORD,
  BLOCK_EXTRA_AT = 1024, /* in a block; the name begins it */
  TEXT_WORDS = 20,       /* of a record */
  STATISTICS_SIZE = 256 * 1024,
  BUCKETS_OFFSET = HEADER_SIZE + STATISTICS_SIZE,
  BUCKETS_MAX = 65536,
  NOTE_WORDS = 62,
  NOTE_COPIES = 3,
  MAPPER_VERSION_SIZE_MAX = 32,
};
#define CAPACITY_MAX (UINT32_C(1) << 24)

/* Numbers of words in the header. */
enum {
  H_MAGIC = 0,
  H_VERSION = 1,
  H_EXTENTS_OFFSET = 2,
  H_CAPACITY = 3,
  H_SIZES = 4,
  H_STATISTICS = 5,
  H_BUCKETS = 6,
  H_EXTENTS = 7,
  H_OF_EXTENT = 8,
  H_KEY = 9,
  H_FINGERPRINT = 12,
  H_BOOT = 13,
  H_SUPERSEDED = 15,
  H_OWNER = 16,
  H_LAST_ID = 32,
  H_GENERATION = 40,
  H_HIGH_WATER = 48,
  H_MAPPER_NOTE = 72,
};

/* Numbers of words in a record. */
enum {
  R_STATE = 0,
  R_NEXT = 1,
  R_HASH = 2,
  R_ID = 3,
  R_ADDRESS = 4,
  R_SIZES = 5,
  R_USER = 8,
  R_SINCE = 9,
  R_BLOCK = 11,
  R_TEXT = 12,
  R_WORDS = RECORD_SIZE / 8,
};

/* Kinds of state. */
enum { KIND_RETIRING = 2, KIND_LIVE = 3, KIND_ORPHANED = 4, KIND_ADOPTING = 5, KIND_AMENDING = 7 };

enum { USE_RECORDS = 1, USE_BLOCKS = 2 };

static const uint64_t magic = UINT64_C(0x0a50414d52455645);
/* Of the word of the owner that has the port: the namespace is told by its cookie. */
static const uint64_t owner_is_cookie = UINT64_C(1) << 16;

/* A turn is lost only to a change that somebody completed meanwhile; a mapper makes some ten thousand in a second. */
static const int turns_max = 64;
/* A chain has CAPACITY_MAX / BUCKETS_MAX records on average at most; this many in a row are damage. */
static const int chain_max = 2048;
/* Of a run of records, as many as this are read together. */
static const uint32_t changed_at_once_min = 3;

struct evermap_reader {
  int fd;
  char path[EVERMAP_READER_PATH_SIZE];
  uint32_t capacity;
  uint32_t buckets;
  uint32_t extents_max;
  uint32_t record_extents_max;
  uint64_t extents_offset;
  uint64_t key[2];
  uint16_t port;
  /* Which extents have records, in their order. Those that are known: number of all (low half), and of these. Several
   * threads that learn at once store the same. */
  _Atomic uint64_t known;
  _Atomic uint32_t* record_extents;
};

static evermap_reader_status failed(evermap_reader_error* error, evermap_reader_status status,
                                    const char* format, ...) __attribute__((format(printf, 3, 4)));

static evermap_reader_status failed(evermap_reader_error* error, evermap_reader_status status,
                                    const char* format, ...) {
  if (error == NULL) return status;
  error->status = status;
  va_list arguments;
  va_start(arguments, format);
  vsnprintf(error->text, sizeof(error->text), format, arguments);
  va_end(arguments);
  return status;
}

/* ---- Bytes of the file ---- */

/* What was read before is from before what is read after. */
static void in_order(void) { atomic_thread_fence(memory_order_seq_cst); }

/* What is missing of the file is damage. */
static evermap_reader_status read_at(int fd, uint64_t offset, void* bytes, size_t size) {
  char* to = bytes;
  while (size > 0) {
    const ssize_t got = pread(fd, to, size, (off_t)offset);
    if (got < 0 && errno == EINTR) continue;
    if (got < 0) return EVERMAP_READER_SYSTEM;
    if (got == 0) return EVERMAP_READER_DAMAGED;
    to += got;
    offset += (uint64_t)got;
    size -= (size_t)got;
  }
  in_order();
  return EVERMAP_READER_OK;
}

static evermap_reader_status read_word(const evermap_reader* reader, uint64_t offset,
                                       uint64_t* word) {
  return read_at(reader->fd, offset, word, sizeof(*word));
}

static uint64_t rotated(uint64_t word, int bits) { return (word << bits) | (word >> (64 - bits)); }

static void sip_rounds(uint64_t v[4], int rounds) {
  for (int i = 0; i < rounds; ++i) {
    v[0] += v[1];
    v[2] += v[3];
    v[1] = rotated(v[1], 13) ^ v[0];
    v[3] = rotated(v[3], 16) ^ v[2];
    v[0] = rotated(v[0], 32);
    v[2] += v[1];
    v[0] += v[3];
    v[1] = rotated(v[1], 17) ^ v[2];
    v[3] = rotated(v[3], 21) ^ v[0];
    v[2] = rotated(v[2], 32);
  }
}

/* SipHash (Aumasson and Bernstein, 2012) with the given numbers of rounds. */
static uint64_t sip_hash(const uint64_t key[2], const void* bytes, size_t size, int rounds,
                         int final_rounds) {
  uint64_t v[4] = {key[0] ^ UINT64_C(0x736f6d6570736575), key[1] ^ UINT64_C(0x646f72616e646f6d),
                   key[0] ^ UINT64_C(0x6c7967656e657261), key[1] ^ UINT64_C(0x7465646279746573)};
  const char* at = bytes;
  size_t left = size;
  for (; left >= 8; at += 8, left -= 8) {
    uint64_t word;
    memcpy(&word, at, 8);
    v[3] ^= word;
    sip_rounds(v, rounds);
    v[0] ^= word;
  }
  uint64_t last = 0;
  memcpy(&last, at, left);
  last |= (uint64_t)size << 56;
  v[3] ^= last;
  sip_rounds(v, rounds);
  v[0] ^= last;
  v[2] ^= 0xff;
  sip_rounds(v, final_rounds);
  return v[0] ^ v[1] ^ v[2] ^ v[3];
}

static uint64_t halves(uint32_t low, uint32_t high) { return low | ((uint64_t)high << 32); }

/* ---- Whose it is ---- */

static evermap_reader_status check_file(const char* path, int fd, int directory_fd,
                                        evermap_reader_error* error) {
  struct stat file;
  struct stat directory;
  if (fstat(fd, &file) != 0 || fstat(directory_fd, &directory) != 0) {
    return failed(error, EVERMAP_READER_SYSTEM, "%s: cannot be examined: %s", path,
                  strerror(errno));
  }
  if (!S_ISREG(file.st_mode)) {
    return failed(error, EVERMAP_READER_NOT_TRUSTED, "%s: is not a regular file", path);
  }
  if ((file.st_mode & (S_IWGRP | S_IWOTH)) != 0) {
    return failed(error, EVERMAP_READER_NOT_TRUSTED,
                  "%s: may be written by other users than its owner", path);
  }
  const bool is_own = file.st_uid == geteuid() || file.st_uid == 0;
  if (!is_own &&
      (directory.st_uid != file.st_uid || (directory.st_mode & (S_IWGRP | S_IWOTH)) != 0)) {
    return failed(
        error, EVERMAP_READER_NOT_TRUSTED,
        "%s: belongs to user %u, who is neither you nor root nor alone in charge of its directory",
        path, (unsigned)file.st_uid);
  }
  return EVERMAP_READER_OK;
}

/* The network namespace of the caller, as the registry tells them apart (registry/owner.h). */
static bool own_namespace(bool as_cookie, uint64_t* number) {
  *number = 0;
  if (as_cookie) {
    const int fd = socket(AF_UNIX, SOCK_DGRAM | SOCK_CLOEXEC, 0);
    if (fd < 0) return false;
    socklen_t size = sizeof(*number);
    const bool is_known =
        getsockopt(fd, SOL_SOCKET, SO_NETNS_COOKIE, number, &size) == 0 && *number != 0;
    close(fd);
    return is_known;
  }
  struct stat file;
  if (stat("/proc/self/ns/net", &file) != 0) return false;
  *number = file.st_ino;
  return true;
}

/* The boot id of the kernel as two words; false when it is not to be had. */
static bool own_boot(uint64_t boot[2]) {
  char text[64];
  const int fd = open("/proc/sys/kernel/random/boot_id", O_RDONLY | O_CLOEXEC);
  if (fd < 0) return false;
  const ssize_t size = read(fd, text, sizeof(text));
  close(fd);
  boot[0] = boot[1] = 0;
  int digits = 0;
  for (ssize_t i = 0; i < size && digits < 32; ++i) {
    const char c = text[i];
    uint64_t digit;
    if (c >= '0' && c <= '9') {
      digit = (uint64_t)(c - '0');
    } else if (c >= 'a' && c <= 'f') {
      digit = (uint64_t)(c - 'a') + 10;
    } else {
      continue; /* a hyphen */
    }
    uint64_t* const half = &boot[digits < 16 ? 0 : 1];
    *half = (*half << 4) | digit;
    ++digits;
  }
  return digits == 32;
}

static evermap_reader_status check_place(const char* path, const uint64_t* header,
                                         evermap_reader_error* error) {
  const uint64_t last = header[H_OWNER + 3];
  uint64_t number;
  if (header[H_OWNER + 2] == 0) {
    return failed(error, EVERMAP_READER_OTHER_NAMESPACE,
                  "%s: does not say to which network namespace it belongs", path);
  }
  if (!own_namespace((last & owner_is_cookie) != 0, &number)) {
    return failed(
        error, EVERMAP_READER_OTHER_NAMESPACE,
        "%s: belongs to a network namespace, and the kernel does not tell which one this is", path);
  }
  if (number != header[H_OWNER + 2]) {
    return failed(error, EVERMAP_READER_OTHER_NAMESPACE, "%s: belongs to another network namespace",
                  path);
  }
  uint64_t boot[2];
  const bool says_boot = header[H_BOOT] != 0 || header[H_BOOT + 1] != 0;
  if (says_boot && own_boot(boot) && (boot[0] != header[H_BOOT] || boot[1] != header[H_BOOT + 1])) {
    return failed(error, EVERMAP_READER_OTHER_BOOT, "%s: is from before the machine was started",
                  path);
  }
  return EVERMAP_READER_OK;
}

/* ---- What lies where ---- */

static evermap_reader_status check_header(evermap_reader* reader, const uint64_t* header,
                                          evermap_reader_error* error) {
  static const uint64_t fingerprint_key[2] = {UINT64_C(0x6576657267726565),
                                              UINT64_C(0x6e2d6d6170706572)};
  const char* const path = reader->path;
  if (header[H_MAGIC] != magic) {
    return failed(error, EVERMAP_READER_DAMAGED, "%s: is not a registry", path);
  }
  if ((uint32_t)header[H_VERSION] != LAYOUT_VERSION) {
    return failed(error, EVERMAP_READER_UNKNOWN_LAYOUT,
                  "%s: has layout version %u, and this reads version %d", path,
                  (unsigned)header[H_VERSION], LAYOUT_VERSION);
  }
  const uint64_t fingerprint =
      sip_hash(fingerprint_key, header, H_FINGERPRINT * sizeof(uint64_t), 2, 4);
  const uint32_t capacity = (uint32_t)header[H_CAPACITY];
  if (header[H_FINGERPRINT] != fingerprint || capacity == 0 || capacity > CAPACITY_MAX) {
    return failed(error, EVERMAP_READER_DAMAGED,
                  "%s: is damaged (its header does not match its checksum)", path);
  }
  uint32_t buckets = 1;
  while (buckets < capacity && buckets < BUCKETS_MAX) buckets *= 2;
  const uint64_t end = BUCKETS_OFFSET + (uint64_t)buckets * sizeof(uint64_t);
  reader->capacity = capacity;
  reader->buckets = buckets;
  reader->extents_offset = (end + PAGE - 1) / PAGE * PAGE;
  reader->record_extents_max = (capacity + EXTENT_RECORDS - 1) / EXTENT_RECORDS;
  reader->extents_max = reader->record_extents_max + (capacity + EXTENT_BLOCKS - 1) / EXTENT_BLOCKS;
  if (header[H_VERSION] != halves(LAYOUT_VERSION, HEADER_SIZE) ||
      header[H_EXTENTS_OFFSET] != reader->extents_offset ||
      header[H_CAPACITY] != halves(capacity, buckets) ||
      header[H_SIZES] != halves(RECORD_SIZE, BLOCK_SIZE) || header[H_STATISTICS] != HEADER_SIZE ||
      header[H_BUCKETS] != BUCKETS_OFFSET ||
      header[H_EXTENTS] != halves(EXTENT_SIZE, reader->extents_max) ||
      header[H_OF_EXTENT] != halves(EXTENT_RECORDS, EXTENT_BLOCKS)) {
    return failed(error, EVERMAP_READER_DAMAGED,
                  "%s: is damaged (sizes in its header do not fit together)", path);
  }
  reader->key[0] = header[H_KEY];
  reader->key[1] = header[H_KEY + 1];
  reader->port = (uint16_t)header[H_OWNER + 3];
  return EVERMAP_READER_OK;
}

static uint64_t extent_offset(const evermap_reader* reader, uint32_t extent) {
  return reader->extents_offset + (uint64_t)extent * EXTENT_SIZE;
}

/* Learns of the extents that the file has got; how many of them are known. One that is damaged, and all behind it, are
 * as if they were not there. */
static evermap_reader_status learn(const evermap_reader* const_reader) {
  evermap_reader* const reader = (evermap_reader*)const_reader; /* for what is atomic */
  struct stat file;
  if (fstat(reader->fd, &file) != 0) return EVERMAP_READER_SYSTEM;
  const uint64_t size = (uint64_t)file.st_size;
  if (size < reader->extents_offset) return EVERMAP_READER_DAMAGED;
  const uint64_t inside = (size - reader->extents_offset) / EXTENT_SIZE;
  uint64_t known = atomic_load(&reader->known);
  uint32_t extents = (uint32_t)known;
  uint32_t of_records = (uint32_t)(known >> 32);
  for (; extents < inside && extents < reader->extents_max; ++extents) {
    uint64_t use;
    const evermap_reader_status status = read_word(reader, extent_offset(reader, extents), &use);
    if (status != EVERMAP_READER_OK) return status;
    if (use == USE_BLOCKS) continue;
    if (use != USE_RECORDS || of_records == reader->record_extents_max) break;
    atomic_store(&reader->record_extents[of_records++], extents);
  }
  const uint64_t learned = halves(extents, of_records);
  while ((uint32_t)known < extents &&
         !atomic_compare_exchange_weak(&reader->known, &known, learned)) {
  }
  return EVERMAP_READER_OK;
}

static uint32_t known_record_extents(const evermap_reader* reader) {
  return (uint32_t)(atomic_load(&((evermap_reader*)reader)->known) >> 32);
}

/* Where record `index` lies. */
static evermap_reader_status record_offset(const evermap_reader* reader, uint32_t index,
                                           uint64_t* offset) {
  if (index >= reader->capacity) return EVERMAP_READER_DAMAGED;
  const uint32_t number = index / EXTENT_RECORDS;
  if (number >= known_record_extents(reader)) {
    const evermap_reader_status status = learn(reader);
    if (status != EVERMAP_READER_OK) return status;
    if (number >= known_record_extents(reader)) return EVERMAP_READER_DAMAGED;
  }
  const uint32_t extent = atomic_load(&reader->record_extents[number]);
  *offset = extent_offset(reader, extent) + PAGE + (uint64_t)(index % EXTENT_RECORDS) * RECORD_SIZE;
  return EVERMAP_READER_OK;
}

/* ---- Records ---- */

static unsigned kind_of(uint64_t state) { return (unsigned)(state & 0xff); }
static bool is_live(uint64_t state) {
  return kind_of(state) == KIND_LIVE || kind_of(state) == KIND_AMENDING;
}
static bool is_registered(uint64_t state) {
  return is_live(state) || kind_of(state) == KIND_ORPHANED || kind_of(state) == KIND_ADOPTING;
}

static size_t words_for(size_t bytes) { return (bytes + 7) / 8; }

/* Reads one of the texts of a block. */
static evermap_reader_status read_block(const evermap_reader* reader, uint64_t block, uint64_t at,
                                        char* text, size_t size) {
  if (block == 0 || (block - 1) / EXTENT_BLOCKS >= reader->extents_max)
    return EVERMAP_READER_DAMAGED;
  const uint32_t extent = (uint32_t)((block - 1) / EXTENT_BLOCKS);
  const uint64_t offset =
      extent_offset(reader, extent) + PAGE + (block - 1) % EXTENT_BLOCKS * BLOCK_SIZE;
  return read_at(reader->fd, offset + at, text, size);
}

/* Makes a node of a record whose words were read after its state; what is in a block is read now, and what was read
 * counts only if the state is the same afterwards (L-2). */
static evermap_reader_status make_node(const evermap_reader* reader, uint32_t slot,
                                       const uint64_t* record, evermap_reader_node* node) {
  const uint64_t sizes = record[R_SIZES];
  const uint64_t address = record[R_ADDRESS];
  const size_t name_size = sizes & 0xffff;
  const size_t extra_size = (sizes >> 16) & 0xffff;
  if (name_size == 0 || name_size > EVERMAP_READER_NAME_SIZE_MAX ||
      extra_size > EVERMAP_READER_EXTRA_SIZE_MAX) {
    return EVERMAP_READER_DAMAGED;
  }
  node->id = record[R_ID];
  node->since_unix_ns = (int64_t)record[R_SINCE];
  node->slot = slot;
  node->creation = (uint32_t)address;
  node->owner_uid = (uint32_t)record[R_USER];
  node->port = (uint16_t)(address >> 32);
  node->node_type = (uint8_t)(address >> 48);
  node->protocol = (uint8_t)(address >> 56);
  node->highest_version = (uint16_t)(sizes >> 32);
  node->lowest_version = (uint16_t)(sizes >> 48);
  node->name_size = (uint16_t)name_size;
  node->extra_size = (uint16_t)extra_size;
  node->state = is_live(record[R_STATE]) ? EVERMAP_READER_LIVE : EVERMAP_READER_ORPHANED;
  evermap_reader_status status = EVERMAP_READER_OK;
  if (words_for(name_size) <= TEXT_WORDS) {
    memcpy(node->name, &record[R_TEXT], name_size);
  } else {
    status = read_block(reader, record[R_BLOCK], 0, node->name, name_size);
  }
  node->name[name_size] = '\0';
  if (words_for(name_size) + words_for(extra_size) <= TEXT_WORDS) {
    memcpy(node->extra, &record[R_TEXT + words_for(name_size)], extra_size);
  } else if (status == EVERMAP_READER_OK && extra_size > 0) {
    status = read_block(reader, record[R_BLOCK], BLOCK_EXTRA_AT, node->extra, extra_size);
  }
  node->extra[extra_size] = '\0';
  return status;
}

/* Reads the node in a record that was in state `state`; EVERMAP_READER_BUSY when it has left that meanwhile. */
static evermap_reader_status read_node(const evermap_reader* reader, uint32_t slot, uint64_t offset,
                                       uint64_t state, evermap_reader_node* node) {
  uint64_t record[R_WORDS];
  evermap_reader_status status = read_at(reader->fd, offset, record, sizeof(record));
  if (status != EVERMAP_READER_OK) return status;
  record[R_STATE] = state;
  const evermap_reader_status made = make_node(reader, slot, record, node);
  if (made == EVERMAP_READER_SYSTEM) return made;
  uint64_t state_now;
  status = read_word(reader, offset, &state_now);
  if (status != EVERMAP_READER_OK) return status;
  return state_now == state ? made : EVERMAP_READER_BUSY;
}

/* One walk along the chain of a bucket (L-4 to L-6). */
static evermap_reader_status walk(const evermap_reader* reader, uint64_t hash, const char* name,
                                  size_t name_size, evermap_reader_node* node) {
  /* The last link before a record that is not marked: while it does not change, the record is on this chain. */
  uint64_t anchor_at = BUCKETS_OFFSET + (hash & (reader->buckets - 1)) * sizeof(uint64_t);
  uint64_t anchor;
  evermap_reader_status status = read_word(reader, anchor_at, &anchor);
  if (status != EVERMAP_READER_OK) return status;
  uint64_t link = anchor;
  for (int i = 0; link >> 32 != 0; ++i) {
    if (i == chain_max) return EVERMAP_READER_DAMAGED;
    const uint32_t index = (uint32_t)(link >> 32) - 1;
    uint64_t offset;
    uint64_t record[R_WORDS];
    status = record_offset(reader, index, &offset);
    if (status == EVERMAP_READER_OK) status = read_at(reader->fd, offset, record, sizeof(record));
    if (status != EVERMAP_READER_OK) return status;
    if (record[R_HASH] == hash && (record[R_SIZES] & 0xffff) == name_size &&
        is_registered(record[R_STATE])) {
      status = read_node(reader, index, offset, record[R_STATE], node);
      if (status != EVERMAP_READER_OK) return status;
      /* It may have left the name that it had when the hash was read. */
      if (node->name_size == name_size && memcmp(node->name, name, name_size) == 0)
        return EVERMAP_READER_OK;
    }
    uint64_t anchor_now;
    status = read_word(reader, anchor_at, &anchor_now);
    if (status != EVERMAP_READER_OK) return status;
    if (anchor_now != anchor) return EVERMAP_READER_BUSY;
    link = record[R_NEXT];
    /* A marked link does not change while the one that leads to it does not. */
    if ((link & 1) == 0) {
      anchor_at = offset + R_NEXT * sizeof(uint64_t);
      anchor = link;
    }
  }
  return EVERMAP_READER_NOT_FOUND;
}

evermap_reader_status evermap_reader_lookup(const evermap_reader* reader, const char* name,
                                            size_t name_size, evermap_reader_node* node) {
  if (name_size == 0 || name_size > EVERMAP_READER_NAME_SIZE_MAX) return EVERMAP_READER_NOT_FOUND;
  const uint64_t hash = sip_hash(reader->key, name, name_size, 1, 3);
  evermap_reader_status status = EVERMAP_READER_BUSY;
  for (int i = 0; i < turns_max && status == EVERMAP_READER_BUSY; ++i) {
    status = walk(reader, hash, name, name_size, node);
  }
  return status;
}

/* ---- Changes ---- */

static evermap_reader_status make_room(evermap_reader_seen* seen, uint32_t slots) {
  if (slots <= seen->slots) return EVERMAP_READER_OK;
  uint64_t* const versions = realloc(seen->versions, slots * sizeof(*versions));
  if (versions == NULL) return EVERMAP_READER_SYSTEM;
  memset(versions + seen->slots, 0, (slots - seen->slots) * sizeof(*versions));
  seen->versions = versions;
  seen->slots = slots;
  return EVERMAP_READER_OK;
}

void evermap_reader_forget(evermap_reader_seen* seen) {
  free(seen->versions);
  *seen = (evermap_reader_seen){NULL, 0};
}

static void tell_gone(evermap_reader_seen* seen, uint32_t slot, evermap_reader_told* told,
                      void* context) {
  if (seen->versions[slot] == 0) return;
  seen->versions[slot] = 0;
  told(context, slot, NULL);
}

/* Tells of what is in `slot` now. EVERMAP_READER_BUSY when it changed all the time. */
static evermap_reader_status tell_slot(const evermap_reader* reader, evermap_reader_seen* seen,
                                       uint32_t slot, uint64_t offset, evermap_reader_told* told,
                                       void* context) {
  evermap_reader_status status = EVERMAP_READER_BUSY;
  for (int i = 0; i < turns_max && status == EVERMAP_READER_BUSY; ++i) {
    uint64_t state;
    status = read_word(reader, offset, &state);
    if (status != EVERMAP_READER_OK) return status;
    if (!is_registered(state)) {
      tell_gone(seen, slot, told, context);
      return EVERMAP_READER_OK;
    }
    if (state == seen->versions[slot]) return EVERMAP_READER_OK;
    evermap_reader_node node;
    status = read_node(reader, slot, offset, state, &node);
    if (status == EVERMAP_READER_OK) {
      seen->versions[slot] = state;
      told(context, slot, &node);
    }
  }
  /* A damaged record is as if nothing were there, so that the others are still told of. */
  if (status != EVERMAP_READER_DAMAGED) return status;
  tell_gone(seen, slot, told, context);
  return EVERMAP_READER_OK;
}

/* 32 records in a row. */
typedef struct run {
  uint64_t words[SLOTS_OF_WORD][R_WORDS];
} run;

/* Records of one run, read so often that what is in between can be trusted (L-2): the second reading
 * of a record counts if its state is the same in the first and the third. */
typedef struct run_reading {
  run before;
  run records;
  run after;
} run_reading;

/* Fills `node` from such a reading; false when the record changed meanwhile, or has text elsewhere. */
static bool make_node_of_run(const evermap_reader* reader, run_reading* reading, uint32_t i,
                             uint32_t slot, evermap_reader_node* node) {
  uint64_t* const record = reading->records.words[i];
  const uint64_t state = reading->before.words[i][R_STATE];
  const uint64_t sizes = record[R_SIZES];
  if (reading->after.words[i][R_STATE] != state ||
      words_for(sizes & 0xffff) + words_for((sizes >> 16) & 0xffff) > TEXT_WORDS) {
    return false;
  }
  record[R_STATE] = state;
  return make_node(reader, slot, record, node) == EVERMAP_READER_OK;
}

static bool is_changed(const run_reading* reading, const evermap_reader_seen* seen, uint32_t bits,
                       uint32_t i, uint32_t slot) {
  const uint64_t state = reading->before.words[i][R_STATE];
  return (bits >> i & 1) != 0 && is_registered(state) && state != seen->versions[slot + i];
}

/* Tells of the records whose bits are set in `bits`, of the 32 from `slot` on. */
static evermap_reader_status tell_slots(const evermap_reader* reader, evermap_reader_seen* seen,
                                        uint32_t slot, uint64_t offset, uint32_t bits,
                                        evermap_reader_told* told, void* context) {
  run_reading reading;
  evermap_reader_status status = EVERMAP_READER_OK;
  if (bits != 0) status = read_at(reader->fd, offset, &reading.before, sizeof(run));
  uint32_t changed = 0;
  for (uint32_t i = 0; status == EVERMAP_READER_OK && i < SLOTS_OF_WORD; ++i) {
    if (bits != 0 && is_changed(&reading, seen, bits, i, slot)) ++changed;
  }
  const bool at_once = changed >= changed_at_once_min;
  if (status == EVERMAP_READER_OK && at_once) {
    status = read_at(reader->fd, offset, &reading.records, sizeof(run));
  }
  if (status == EVERMAP_READER_OK && at_once) {
    status = read_at(reader->fd, offset, &reading.after, sizeof(run));
  }
  if (status != EVERMAP_READER_OK) return status;
  evermap_reader_status result = EVERMAP_READER_OK;
  for (uint32_t i = 0; i < SLOTS_OF_WORD && slot + i < reader->capacity; ++i) {
    if ((bits >> i & 1) == 0 || !is_registered(reading.before.words[i][R_STATE])) {
      tell_gone(seen, slot + i, told, context);
      continue;
    }
    if (!is_changed(&reading, seen, bits, i, slot)) continue;
    evermap_reader_node node;
    if (at_once && make_node_of_run(reader, &reading, i, slot + i, &node)) {
      seen->versions[slot + i] = reading.before.words[i][R_STATE];
      told(context, slot + i, &node);
      continue;
    }
    status = tell_slot(reader, seen, slot + i, offset + (uint64_t)i * RECORD_SIZE, told, context);
    if (status == EVERMAP_READER_BUSY) {
      result = status;
    } else if (status != EVERMAP_READER_OK) {
      return status;
    }
  }
  return result;
}

evermap_reader_status evermap_reader_changes(const evermap_reader* reader,
                                             evermap_reader_seen* seen, evermap_reader_told* told,
                                             void* context) {
  evermap_reader_status status = learn(reader);
  const uint32_t extents = known_record_extents(reader);
  if (status == EVERMAP_READER_OK) status = make_room(seen, extents * EXTENT_RECORDS);
  if (status != EVERMAP_READER_OK) return status;
  evermap_reader_status result = EVERMAP_READER_OK;
  for (uint32_t number = 0; number < extents; ++number) {
    const uint64_t head = extent_offset(reader, atomic_load(&reader->record_extents[number]));
    uint64_t occupancy[OCCUPANCY_WORDS];
    status = read_at(reader->fd, head + OCCUPANCY_AT, occupancy, sizeof(occupancy));
    if (status != EVERMAP_READER_OK) return status;
    for (uint32_t word = 0; word < OCCUPANCY_WORDS; ++word) {
      const uint32_t first = word * SLOTS_OF_WORD;
      status = tell_slots(reader, seen, number * EXTENT_RECORDS + first,
                          head + PAGE + (uint64_t)first * RECORD_SIZE, (uint32_t)occupancy[word],
                          told, context);
      if (status == EVERMAP_READER_BUSY) {
        result = status;
      } else if (status != EVERMAP_READER_OK) {
        return status;
      }
    }
  }
  return result;
}

/* ---- The file ---- */

static evermap_reader* begin(const char* path, evermap_reader_error* error) {
  evermap_reader* const reader = calloc(1, sizeof(*reader));
  if (reader == NULL) {
    failed(error, EVERMAP_READER_SYSTEM, "%s: no memory to read it", path);
    return NULL;
  }
  reader->fd = -1;
  if (snprintf(reader->path, sizeof(reader->path), "%s", path) >= (int)sizeof(reader->path)) {
    failed(error, EVERMAP_READER_SYSTEM, "%.64s...: is too long a path", path);
    free(reader);
    return NULL;
  }
  return reader;
}

static evermap_reader_status open_file(evermap_reader* reader, evermap_reader_error* error) {
  char directory[EVERMAP_READER_PATH_SIZE] = ".";
  const char* const slash = strrchr(reader->path, '/');
  const char* const base = slash == NULL ? reader->path : slash + 1;
  if (slash != NULL)
    snprintf(directory, sizeof(directory), "%.*s", (int)(base - reader->path), reader->path);
  const int directory_fd = open(directory, O_PATH | O_DIRECTORY | O_CLOEXEC);
  if (directory_fd >= 0) {
    /* Without blocking, in case it is a FIFO. */
    reader->fd =
        openat(directory_fd, base, O_RDONLY | O_CLOEXEC | O_NOFOLLOW | O_NONBLOCK | O_NOCTTY);
  }
  evermap_reader_status status = EVERMAP_READER_OK;
  if (reader->fd < 0) {
    const int code = errno;
    const bool is_there = code != ENOENT && code != ENOTDIR;
    status = failed(error, is_there ? EVERMAP_READER_NOT_TRUSTED : EVERMAP_READER_NO_REGISTRY,
                    "%s: %s", reader->path, is_there ? strerror(code) : "no registry there");
  } else {
    status = check_file(reader->path, reader->fd, directory_fd, error);
  }
  if (directory_fd >= 0) close(directory_fd);
  return status;
}

static evermap_reader_status read_file(evermap_reader* reader, evermap_reader_error* error) {
  uint64_t header[HEADER_SIZE / sizeof(uint64_t)];
  evermap_reader_status status = read_at(reader->fd, 0, header, sizeof(header));
  if (status != EVERMAP_READER_OK) {
    return failed(error, status, "%s: %s", reader->path,
                  status == EVERMAP_READER_DAMAGED ? "is truncated" : strerror(errno));
  }
  status = check_header(reader, header, error);
  if (status == EVERMAP_READER_OK) status = check_place(reader->path, header, error);
  if (status != EVERMAP_READER_OK) return status;
  if (header[H_SUPERSEDED] != 0) {
    return failed(error, EVERMAP_READER_OUTDATED, "%s: another registry is taking its place",
                  reader->path);
  }
  reader->record_extents = calloc(reader->record_extents_max, sizeof(*reader->record_extents));
  if (reader->record_extents == NULL) {
    return failed(error, EVERMAP_READER_SYSTEM, "%s: no memory to read it", reader->path);
  }
  status = learn(reader);
  if (status == EVERMAP_READER_OK && known_record_extents(reader) == 0 &&
      header[H_HIGH_WATER] != 0) {
    status = EVERMAP_READER_DAMAGED;
  }
  if (status == EVERMAP_READER_OK) return status;
  return failed(error, status, "%s: is truncated or damaged", reader->path);
}

evermap_reader* evermap_reader_open(const char* path, evermap_reader_error* error) {
  evermap_reader* const reader = begin(path, error);
  if (reader == NULL) return NULL;
  if (open_file(reader, error) != EVERMAP_READER_OK ||
      read_file(reader, error) != EVERMAP_READER_OK) {
    evermap_reader_close(reader);
    return NULL;
  }
  if (error != NULL) *error = (evermap_reader_error){EVERMAP_READER_OK, ""};
  return reader;
}

void evermap_reader_close(evermap_reader* reader) {
  if (reader == NULL) return;
  if (reader->fd >= 0) close(reader->fd);
  free(reader->record_extents);
  free(reader);
}

const char* evermap_reader_path(const evermap_reader* reader) { return reader->path; }
int evermap_reader_fd(const evermap_reader* reader) { return reader->fd; }

evermap_reader_status evermap_reader_check(const evermap_reader* reader) {
  struct stat file;
  uint64_t superseded;
  if (fstat(reader->fd, &file) != 0) return EVERMAP_READER_SYSTEM;
  if (file.st_nlink == 0) return EVERMAP_READER_OUTDATED;
  const evermap_reader_status status =
      read_word(reader, H_SUPERSEDED * sizeof(uint64_t), &superseded);
  if (status != EVERMAP_READER_OK) return status;
  return superseded == 0 ? EVERMAP_READER_OK : EVERMAP_READER_OUTDATED;
}

/* ---- What the mapper says of itself ---- */

/* Reads the newest valid copy of the mapper's note (L-12); false when there is none. */
static bool read_mapper_note(const uint64_t* header, uint64_t words[NOTE_WORDS]) {
  static const uint64_t checksum_key[2] = {UINT64_C(0x6576657267726565),
                                           UINT64_C(0x6e2d737461747573)};
  uint64_t newest = 0;
  for (int i = 0; i < NOTE_COPIES; ++i) {
    /* Number and checksum, and the words. */
    const uint64_t* const copy = &header[H_MAPPER_NOTE + 8 + i * (NOTE_WORDS + 2)];
    uint64_t checked[NOTE_WORDS + 1];
    checked[0] = copy[0];
    memcpy(&checked[1], &copy[2], NOTE_WORDS * sizeof(uint64_t));
    if (copy[0] <= newest || sip_hash(checksum_key, checked, sizeof(checked), 1, 3) != copy[1])
      continue;
    newest = copy[0];
    memcpy(words, &copy[2], NOTE_WORDS * sizeof(uint64_t));
  }
  return newest != 0;
}

evermap_reader_status evermap_reader_get_facts(const evermap_reader* reader,
                                               evermap_reader_facts* facts) {
  uint64_t header[HEADER_SIZE / sizeof(uint64_t)];
  struct stat file;
  memset(facts, 0, sizeof(*facts));
  const evermap_reader_status status = read_at(reader->fd, 0, header, sizeof(header));
  if (status != EVERMAP_READER_OK) return status;
  if (fstat(reader->fd, &file) != 0) return EVERMAP_READER_SYSTEM;
  facts->generation = header[H_GENERATION];
  facts->last_id = header[H_LAST_ID];
  facts->inode = file.st_ino;
  facts->layout_version = LAYOUT_VERSION;
  facts->capacity = reader->capacity;
  const uint64_t used = header[H_HIGH_WATER];
  facts->slots_used = used < reader->capacity ? (uint32_t)used : reader->capacity;
  facts->port = (uint16_t)header[H_OWNER + 3];
  uint64_t words[NOTE_WORDS];
  if (!read_mapper_note(header, words)) return EVERMAP_READER_OK;
  facts->mapper_pid = (uint32_t)words[0];
  facts->started_unix_ns = (int64_t)words[2];
  size_t size = words[4] & 0xffff;
  if (size > MAPPER_VERSION_SIZE_MAX) size = MAPPER_VERSION_SIZE_MAX;
  memcpy(facts->mapper_version, &words[5], size);
  for (size_t i = 0; i < size; ++i) {
    const unsigned char c = (unsigned char)facts->mapper_version[i];
    if (c < 0x20 || c >= 0x7f) facts->mapper_version[i] = '?';
  }
  return EVERMAP_READER_OK;
}

/* ---- Where it is (registry/location.h) ---- */

static bool is_own_directory(const char* path) {
  struct stat file;
  return lstat(path, &file) == 0 && S_ISDIR(file.st_mode) && file.st_uid == geteuid() &&
         (file.st_mode & (S_IWGRP | S_IWOTH)) == 0;
}

/* $RUNTIME_DIRECTORY, unless systemd has set it for another process. */
static const char* runtime_directory(void) {
  const char* const directory = getenv("RUNTIME_DIRECTORY");
  const char* const process = getenv("SYSTEMD_EXEC_PID");
  if (directory == NULL || *directory != '/') return NULL;
  return process == NULL || strtol(process, NULL, 10) == (long)getpid() ? directory : NULL;
}

/* Adds the paths in one directory, of `size` bytes; how many there are then. */
static int add_candidates(const char* directory, size_t size, const char* suffix, uint16_t port,
                          char paths[][EVERMAP_READER_PATH_SIZE], int count) {
  struct stat file;
  uint64_t number;
  char path[EVERMAP_READER_PATH_SIZE];
  int length = snprintf(path, sizeof(path), "%.*s%s/registry.%u", (int)size, directory, suffix,
                        (unsigned)port);
  if (length < 0 || length >= (int)sizeof(path)) return count;
  for (int i = 0; i < count; ++i) {
    if (strcmp(paths[i], path) == 0) return count;
  }
  /* One of this network namespace alone, if there is one. */
  if (own_namespace(true, &number) || own_namespace(false, &number)) {
    length = snprintf(paths[count], EVERMAP_READER_PATH_SIZE, "%s.net-%llu", path,
                      (unsigned long long)number);
    if (length > 0 && length < EVERMAP_READER_PATH_SIZE && stat(paths[count], &file) == 0) ++count;
  }
  memcpy(paths[count], path, sizeof(path));
  return count + 1;
}

int evermap_reader_candidates(uint16_t port,
                              char paths[EVERMAP_READER_CANDIDATES_MAX][EVERMAP_READER_PATH_SIZE]) {
  static const char system_directory[] = "/run/evermap";
  /* Where release 0.1.0 kept the system's registry. */
  static const char former_directory[] = "/run/epmd";
  const char* const of_service = runtime_directory();
  const char* const of_user = getenv("XDG_RUNTIME_DIR");
  int count = 0;
  if (of_service != NULL) {
    count = add_candidates(of_service, strcspn(of_service, ":"), "", port, paths, count);
  }
  if (geteuid() != 0 && !is_own_directory(system_directory)) {
    if (of_user != NULL && *of_user == '/' && is_own_directory(of_user)) {
      count = add_candidates(of_user, strlen(of_user), "/epmd", port, paths, count);
    } else {
      char directory[64];
      snprintf(directory, sizeof(directory), "/dev/shm/epmd-%u", (unsigned)geteuid());
      /* Everybody may make that one. */
      if (is_own_directory(directory)) {
        count = add_candidates(directory, strlen(directory), "", port, paths, count);
      }
    }
  }
  count = add_candidates(system_directory, strlen(system_directory), "", port, paths, count);
  count = add_candidates(former_directory, strlen(former_directory), "", port, paths, count);
  assert(count <= EVERMAP_READER_CANDIDATES_MAX);
  return count;
}

evermap_reader* evermap_reader_open_port(uint16_t port, evermap_reader_error* error) {
  char paths[EVERMAP_READER_CANDIDATES_MAX][EVERMAP_READER_PATH_SIZE];
  const int count = evermap_reader_candidates(port, paths);
  evermap_reader* best = NULL;
  evermap_reader_facts facts_of_best = {0};
  evermap_reader_error first = {EVERMAP_READER_NO_REGISTRY, ""};
  for (int i = 0; i < count; ++i) {
    evermap_reader_error problem;
    evermap_reader* reader = evermap_reader_open(paths[i], &problem);
    if (reader == NULL) {
      if (first.text[0] == '\0' ||
          (first.status == EVERMAP_READER_NO_REGISTRY && problem.status != first.status)) {
        first = problem;
      }
      continue;
    }
    evermap_reader_facts facts = {0};
    /* What belongs to the mapper of another port, as a file that was copied, is not what was asked for. */
    const bool is_meant =
        evermap_reader_get_facts(reader, &facts) == EVERMAP_READER_OK && facts.port == port;
    if (is_meant && (best == NULL || facts.started_unix_ns > facts_of_best.started_unix_ns)) {
      evermap_reader_close(best);
      best = reader;
      facts_of_best = facts;
    } else {
      evermap_reader_close(reader);
    }
  }
  if (best != NULL) {
    first = (evermap_reader_error){EVERMAP_READER_OK, ""};
  } else if (first.text[0] == '\0') {
    failed(&first, EVERMAP_READER_NO_REGISTRY, "no registry of a mapper on port %u",
           (unsigned)port);
  }
  if (error != NULL) *error = first;
  return best;
}
