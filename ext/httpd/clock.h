/*
 * The clock: a thread that looks at every connection once a second and ends
 * those that take too long.
 *
 * PURPOSE  The library's timeout starts again with every byte, so that one
 *   byte a second holds a connection for ever. The clock measures from the
 *   start. It ends a connection with shutdown(); the library then notices.
 *
 * RULES  head not complete 10 s after connecting, or 30 s after the last
 *   answer; a body slower than 1 KiB/s after 10 s; a request older than 60 s
 *   unless it is a stream that moves.
 *
 * LOCK  The mutex of the list is held while a connection is announced, is
 *   taken off, and is shut down: a descriptor in the list is open, and is
 *   that connection's.
 */
#ifndef SKVD_CLOCK_H
#define SKVD_CLOCK_H

#include <stdatomic.h>
#include <stdbool.h>
#include <stdint.h>

typedef struct skvd_clock skvd_clock;

/* What a connection is doing. */
typedef enum skvd_peer_phase {
  SKVD_PEER_HEAD,  /* idle, or a head is coming in */
  SKVD_PEER_BODY,  /* a body is coming in */
  SKVD_PEER_ANSWER /* we are at it, or the answer is going out */
} skvd_peer_phase;

/* One connection. Written by its HTTP thread, read by the clock. */
typedef struct skvd_peer {
  struct skvd_peer *previous, *next; /* the list, under the mutex */
  int fd;                            /* its socket */
  bool is_cut;                       /* was shut down; clock thread only */
  atomic_bool has_served;            /* an answer was sent on it */
  atomic_bool is_stream;             /* exempt from the limit on age */
  atomic_int phase;                  /* skvd_peer_phase */
  _Atomic int64_t since;             /* when the phase began, ms */
  _Atomic int64_t started;           /* when the request began, ms */
  _Atomic uint64_t body;             /* bytes of the body so far */
} skvd_peer;

/* Monotonic milliseconds. */
int64_t skvd_now_ms(void);

/* Start the thread; `tick` is called on it every second. NULL on failure. */
skvd_clock *skvd_clock_start(void (*tick)(void *arg), void *arg);
/* Stop it; there are no connections any more. NULL is allowed. */
void skvd_clock_stop(skvd_clock *clock);

/* A connection began; NULL without memory. */
skvd_peer *skvd_clock_add(skvd_clock *clock, int fd);
/* It ends; its descriptor is still open. Frees the peer. */
void skvd_clock_remove(skvd_clock *clock, skvd_peer *peer);

/* The connection enters a phase. */
void skvd_peer_enter(skvd_peer *peer, skvd_peer_phase phase);

/* Why the connection must end at `now`, NULL if it need not. Pure but for
 * reading the peer. */
const char *skvd_clock_verdict(const skvd_peer *peer, int64_t now);

#endif
