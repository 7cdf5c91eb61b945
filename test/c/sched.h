/*
 * The scheduler: runs the processes of one schedule one at a time, and changes
 * from one to another only where the schedule says.
 *
 * STEP  What a process does between two points: the SKV_POINTs of the engine,
 *   and each lock, rename, removal and sleep of its environment. A process is
 *   one thread with an in-memory environment of its own, and runs until
 *
 *     it is done, or sleeps: the next one goes on, in turn;
 *     a preemption is due: at the n-th step of all, to a given process;
 *     it dies: at the n-th step of its own. Its thread leaves what it was
 *     doing, its locks and files vanish, its memory stays behind.
 *
 * TIME  is counted in calls and sleeps, so a schedule is the same each time.
 *
 * LIMITS  Whoever waits for a lock between processes polls with sleeps, so
 *   nobody waits unseen; mutexes are those of one process, which is one thread.
 *
 * MEMORY  What a process says before a look at what others said (skv_say, P1)
 *   is stored as late as a machine may do it: at its next fence, or when it
 *   calls its environment.
 *
 * RACES  The threads hand over by relaxed atomics and a futex, of which a race
 *   detector does not learn that they order anything.
 */
#ifndef TEST_C_SCHED_H
#define TEST_C_SCHED_H

#include <linux/futex.h>
#include <pthread.h>
#include <setjmp.h>
#include <stdatomic.h>
#include <sys/syscall.h>
#include <unistd.h>

#include "engine/db/shared.h"
#include "engine/util/point.h"
#include "test/c/db_fixture.h"

#define SCHED_ACTORS 3
#define SCHED_PREEMPTIONS 4
#define SCHED_STEPS 20000 /* more is a deadlock */

#ifdef SKV_TEST /* without it there are no points */

#if defined(__clang__) || defined(__SANITIZE_THREAD__)
#define SCHED_UNSEEN __attribute__((no_sanitize("thread")))
#else
#define SCHED_UNSEEN
#endif

/* Where a directed schedule changes: when the actor passes that point, it dies
 * or goes on later; then it is the turn of `to`. */
typedef struct sched_cue {
  unsigned actor;
  const char *point;
  bool dies;
  unsigned to;
} sched_cue;

#define SCHED_SAID 8 /* words that are said and not stored */

typedef struct sched_said {
  _Atomic uint64_t *word;
  uint64_t value;
  bool at_least;
} sched_said;

/* Which schedule. */
typedef struct schedule {
  unsigned scenario, first;
  unsigned count; /* preemptions */
  unsigned at[SCHED_PREEMPTIONS], to[SCHED_PREEMPTIONS];
  unsigned victim, death; /* death: its step; 0: nobody dies */
  const sched_cue *cues;  /* instead of all that, up to one without a point */
} schedule;

typedef struct sched_actor {
  _Atomic uint32_t go;
  unsigned number, steps;
  bool started, asleep, done, dead;
  sched_said said[SCHED_SAID];
  size_t said_count;
  skv_env *env;
  void (*run)(struct sched_actor *actor);
  void *arg;
  pthread_t thread;
  jmp_buf end;
} sched_actor;

static struct sched {
  schedule plan;
  sched_actor actors[SCHED_ACTORS];
  unsigned count, current, steps, next_preemption, after_death;
  bool is_on, is_stuck;
  _Atomic uint64_t clock;
  _Atomic uint32_t over;
  skv_env plain; /* the functions of an environment as they were */
  char trace[SCHED_STEPS / 64][24];
} sched;

static _Thread_local sched_actor *sched_self;

/* ---- Handing over ------------------------------------------------------ */

static inline void sched_wake(_Atomic uint32_t *word) {
  atomic_store_explicit(word, 1, memory_order_relaxed);
  syscall(SYS_futex, word, FUTEX_WAKE_PRIVATE, 1, NULL, NULL, 0);
}

static inline void sched_wait(_Atomic uint32_t *word) {
  while (atomic_exchange_explicit(word, 0, memory_order_relaxed) == 0)
    syscall(SYS_futex, word, FUTEX_WAIT_PRIVATE, 0, NULL, NULL, 0);
}

/* The next one behind `from` that is not done; awake if wanted. */
SCHED_UNSEEN static inline unsigned sched_next(unsigned from, bool awake) {
  for (unsigned i = 1; i <= sched.count; i++) {
    unsigned n = (from + i) % sched.count;
    if (!sched.actors[n].done && !(awake && sched.actors[n].asleep)) return n;
  }
  return sched.count;
}

SCHED_UNSEEN static inline void sched_switch(unsigned to) {
  sched_actor *self = sched_self;
  sched.current = to;
  sched.actors[to].asleep = false;
  if (to == self->number) return;
  sched_wake(&sched.actors[to].go);
  sched_wait(&self->go);
}

/* ---- What is said ------------------------------------------------------ */

/* Of one that dies, too: what it did is done. */
SCHED_UNSEEN static inline void sched_store_said(void) {
  sched_actor *self = sched_self;
  if (!sched.is_on || self == NULL) return;
  for (size_t i = 0; i < self->said_count; i++) {
    const sched_said *s = &self->said[i];
    if (!s->at_least || atomic_load(s->word) < s->value)
      atomic_store_explicit(s->word, s->value, memory_order_relaxed);
  }
  self->said_count = 0;
}

SCHED_UNSEEN static inline bool sched_say(_Atomic uint64_t *word,
                                          uint64_t value, bool at_least) {
  sched_actor *self = sched_self;
  if (!sched.is_on || self == NULL) return false;
  if (self->said_count == SCHED_SAID) sched_store_said();
  self->said[self->said_count++] = (sched_said){word, value, at_least};
  return true;
}

static const skv_say_hook sched_say_hook = {sched_say, sched_store_said};

/* ---- Steps ------------------------------------------------------------- */

SCHED_UNSEEN static inline void sched_preempt(void) {
  const schedule *plan = &sched.plan;
  unsigned i = sched.next_preemption;
  if (i >= plan->count || plan->at[i] != sched.steps) return;
  sched.next_preemption++;
  unsigned to = plan->to[i] % sched.count;
  if (!sched.actors[to].done) sched_switch(to);
}

/* Its memory may be gone when its thread ends. */
SCHED_UNSEEN static inline void sched_die(void) {
  sched_store_said();
  sched_self->dead = true;
  longjmp(sched_self->end, 1);
}

SCHED_UNSEEN static inline void sched_cued(const char *name) {
  const sched_cue *cue = &sched.plan.cues[sched.next_preemption];
  if (cue->point == NULL || cue->actor != sched_self->number ||
      strcmp(cue->point, name) != 0)
    return;
  sched.next_preemption++;
  sched.after_death = cue->to;
  if (cue->dies) sched_die();
  sched_switch(cue->to);
}

SCHED_UNSEEN static inline void sched_step(const char *name) {
  sched_actor *self = sched_self;
  if (!sched.is_on || self == NULL) return;
  self->steps++;
  if (sched.steps < SCHED_STEPS / 64)
    snprintf(sched.trace[sched.steps], sizeof sched.trace[0], "%u %s",
             self->number, name);
  if (++sched.steps > SCHED_STEPS) sched.is_stuck = true;
  if (sched.is_stuck ||
      (sched.plan.death != 0 && sched.plan.victim == self->number &&
       sched.plan.death == self->steps))
    sched_die();
  if (sched.plan.cues != NULL)
    sched_cued(name);
  else
    sched_preempt();
}

static inline void sched_point(void *arg, const char *name) {
  SKV_UNUSED(arg);
  sched_step(name);
}

/* ---- The environment of a process -------------------------------------- */

static inline uint64_t sched_now(skv_env *env) {
  SKV_UNUSED(env);
  return atomic_fetch_add_explicit(&sched.clock, 100, memory_order_relaxed);
}

SCHED_UNSEEN static inline void sched_sleep(skv_env *env, uint64_t ns) {
  SKV_UNUSED(env);
  atomic_fetch_add_explicit(&sched.clock, ns, memory_order_relaxed);
  if (!sched.is_on || sched_self == NULL) return;
  sched_store_said();
  sched_step("sleep");
  sched_self->asleep = true;
  unsigned to = sched_next(sched_self->number, true);
  if (to == sched.count) to = sched_next(sched_self->number, false);
  sched_switch(to);
}

static inline void sched_wait_word(skv_env *env, const uint32_t *word,
                                   uint32_t value, uint64_t ns) {
  const _Atomic uint32_t *now = (const _Atomic uint32_t *)word;
  if (atomic_load_explicit(now, memory_order_relaxed) == value)
    sched_sleep(env, ns);
}

static inline void sched_wake_word(skv_env *env, const uint32_t *word) {
  SKV_UNUSED(env);
  SKV_UNUSED(word);
}

static inline int sched_lock(skv_file *file, uint64_t offset, uint64_t size,
                             int mode, skv_err *err) {
  bool is_slot = offset >= SKV_LOCK_SLOT && offset < SKV_LOCK_SLOT + SKV_SLOTS;
  sched_step(mode == SKV_UNLOCK ? "unlock" : is_slot ? "lock slot" : "lock");
  sched_store_said();
  return sched.plain.file_lock(file, offset, size, mode, err);
}

static inline int sched_rename(skv_dir *dir, const char *from, const char *to,
                               skv_err *err) {
  sched_step("rename");
  sched_store_said();
  return sched.plain.dir_rename(dir, from, to, err);
}

static inline int sched_unlink(skv_dir *dir, const char *name, skv_err *err) {
  sched_step("unlink");
  sched_store_said();
  return sched.plain.dir_unlink(dir, name, err);
}

static inline void sched_env(skv_env *env) {
  sched.plain = *env;
  env->now = sched_now;
  env->sleep = sched_sleep;
  env->wait = sched_wait_word;
  env->wake = sched_wake_word;
  env->file_lock = sched_lock;
  env->dir_rename = sched_rename;
  env->dir_unlink = sched_unlink;
}

/* ---- A schedule -------------------------------------------------------- */

SCHED_UNSEEN static inline void *sched_main(void *arg) {
  sched_actor *self = arg;
  sched_self = self;
  sched_wait(&self->go);
  self->started = true;
  if (setjmp(self->end) == 0) self->run(self);
  if (self->dead)
    skv_env_mem_free(self->env);
  else
    sched_store_said();
  self->done = true;
  unsigned next = sched_next(self->number, true);
  if (self->dead && sched.plan.cues != NULL) next = sched.after_death;
  if (next == sched.count) next = sched_next(self->number, false);
  if (next == sched.count) {
    sched_wake(&sched.over);
  } else {
    sched.current = next;
    sched.actors[next].asleep = false;
    sched_wake(&sched.actors[next].go);
  }
  return NULL;
}

/* Run the actors, whose env, run and arg are set. */
static inline void sched_run(const schedule *plan, unsigned count) {
  sched.plan = *plan;
  sched.count = count;
  sched.steps = sched.next_preemption = 0;
  sched.is_stuck = false;
  atomic_store(&sched.over, 0);
  skv_point_set(sched_point, NULL);
  skv_say_hooked = &sched_say_hook;
  for (unsigned i = 0; i < count; i++) {
    sched_actor *a = &sched.actors[i];
    atomic_store(&a->go, 0);
    a->number = i;
    a->steps = 0;
    a->said_count = 0;
    a->started = a->asleep = a->done = a->dead = false;
  }
  sched.is_on = true;
  for (unsigned i = 0; i < count; i++)
    if (pthread_create(&sched.actors[i].thread, NULL, sched_main,
                       &sched.actors[i]))
      abort();
  sched.current = plan->first % count;
  sched_wake(&sched.actors[sched.current].go);
  sched_wait(&sched.over);
  for (unsigned i = 0; i < count; i++)
    pthread_join(sched.actors[i].thread, NULL);
  sched.is_on = false;
}

#endif
#endif
