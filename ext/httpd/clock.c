/* The thread of clock.h. */
#include "ext/httpd/clock.h"

#include <pthread.h>
#include <stdlib.h>
#include <sys/socket.h>
#include <time.h>

#include "ext/httpd/log.h"

#define CLOCK_PERIOD_MS 1000
#define CLOCK_FIRST_HEAD_MS 10000
#define CLOCK_NEXT_HEAD_MS 30000
#define CLOCK_BODY_GRACE_MS 10000
#define CLOCK_BODY_BYTES_A_SECOND 1024
#define CLOCK_REQUEST_MS 60000

struct skvd_clock {
  pthread_t thread;
  void (*tick)(void *arg); /* called every second */
  void *arg;               /* its argument */

  pthread_mutex_t mutex; /* guards what follows, and see LOCK */
  pthread_cond_t wake;   /* is_stopping was set */
  bool is_stopping;
  skvd_peer *peers; /* the list */
};

int64_t skvd_now_ms(void) {
  struct timespec now;
  clock_gettime(CLOCK_MONOTONIC, &now);
  return (int64_t)now.tv_sec * 1000 + now.tv_nsec / 1000000;
}

static const char *clock_judge_head(const skvd_peer *peer, int64_t age) {
  int64_t limit = peer->has_served ? CLOCK_NEXT_HEAD_MS : CLOCK_FIRST_HEAD_MS;
  return age >= limit ? "no complete head in time" : NULL;
}

static const char *clock_judge_body(const skvd_peer *peer, int64_t age) {
  if (age < CLOCK_BODY_GRACE_MS) return NULL;
  if (peer->body < (uint64_t)age / 1000 * CLOCK_BODY_BYTES_A_SECOND) {
    return "the body is too slow";
  }
  return NULL;
}

const char *skvd_clock_verdict(const skvd_peer *peer, int64_t now) {
  int phase = peer->phase;
  const char *why = NULL;
  if (phase == SKVD_PEER_HEAD) return clock_judge_head(peer, now - peer->since);
  if (phase == SKVD_PEER_BODY) why = clock_judge_body(peer, now - peer->since);
  if (why == NULL && !peer->is_stream &&
      now - peer->started >= CLOCK_REQUEST_MS) {
    why = "the request took over 60 s";
  }
  return why;
}

static void clock_check_all(skvd_clock *clock) {
  int64_t now = skvd_now_ms();
  pthread_mutex_lock(&clock->mutex);
  for (skvd_peer *peer = clock->peers; peer != NULL; peer = peer->next) {
    const char *why = peer->is_cut ? NULL : skvd_clock_verdict(peer, now);
    if (why == NULL) continue;
    shutdown(peer->fd, SHUT_RDWR);
    peer->is_cut = true;
    /* An idle connection that is let go is no news. */
    if (peer->phase != SKVD_PEER_HEAD || !peer->has_served) {
      skvd_log_client_event("connection closed: %s", why);
    }
  }
  pthread_mutex_unlock(&clock->mutex);
}

/* Sleep for a period; true if it is time to stop. */
static bool clock_sleep(skvd_clock *clock) {
  struct timespec until;
  bool is_stopping;
  int rc = 0;
  clock_gettime(CLOCK_MONOTONIC, &until);
  until.tv_sec += CLOCK_PERIOD_MS / 1000;
  pthread_mutex_lock(&clock->mutex);
  while (!clock->is_stopping && rc == 0) {
    rc = pthread_cond_timedwait(&clock->wake, &clock->mutex, &until);
  }
  is_stopping = clock->is_stopping;
  pthread_mutex_unlock(&clock->mutex);
  return is_stopping;
}

static void *clock_main(void *arg) {
  skvd_clock *clock = arg;
  while (!clock_sleep(clock)) {
    clock_check_all(clock);
    clock->tick(clock->arg);
  }
  return NULL;
}

skvd_clock *skvd_clock_start(void (*tick)(void *arg), void *arg) {
  skvd_clock *clock = calloc(1, sizeof *clock);
  pthread_condattr_t attributes;
  if (clock == NULL) return NULL;
  clock->tick = tick;
  clock->arg = arg;
  pthread_mutex_init(&clock->mutex, NULL);
  pthread_condattr_init(&attributes);
  pthread_condattr_setclock(&attributes, CLOCK_MONOTONIC);
  pthread_cond_init(&clock->wake, &attributes);
  pthread_condattr_destroy(&attributes);
  if (pthread_create(&clock->thread, NULL, clock_main, clock) != 0) {
    pthread_cond_destroy(&clock->wake);
    pthread_mutex_destroy(&clock->mutex);
    free(clock);
    return NULL;
  }
  return clock;
}

void skvd_clock_stop(skvd_clock *clock) {
  if (clock == NULL) return;
  pthread_mutex_lock(&clock->mutex);
  clock->is_stopping = true;
  pthread_cond_signal(&clock->wake);
  pthread_mutex_unlock(&clock->mutex);
  pthread_join(clock->thread, NULL);
  pthread_cond_destroy(&clock->wake);
  pthread_mutex_destroy(&clock->mutex);
  free(clock);
}

skvd_peer *skvd_clock_add(skvd_clock *clock, int fd) {
  skvd_peer *peer = calloc(1, sizeof *peer);
  if (peer == NULL) return NULL;
  peer->fd = fd;
  skvd_peer_enter(peer, SKVD_PEER_HEAD);
  pthread_mutex_lock(&clock->mutex);
  peer->next = clock->peers;
  if (peer->next != NULL) peer->next->previous = peer;
  clock->peers = peer;
  pthread_mutex_unlock(&clock->mutex);
  return peer;
}

void skvd_clock_remove(skvd_clock *clock, skvd_peer *peer) {
  pthread_mutex_lock(&clock->mutex);
  if (peer->previous != NULL)
    peer->previous->next = peer->next;
  else
    clock->peers = peer->next;
  if (peer->next != NULL) peer->next->previous = peer->previous;
  pthread_mutex_unlock(&clock->mutex);
  free(peer);
}

void skvd_peer_enter(skvd_peer *peer, skvd_peer_phase phase) {
  peer->since = skvd_now_ms();
  peer->phase = phase;
}
