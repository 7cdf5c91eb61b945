/*
 * Time that passes only when somebody waits or looks: waiting costs nothing,
 * and how long a call would have taken is known exactly.
 */
#ifndef TEST_FUZZ_FUZZ_CLOCK_H
#define TEST_FUZZ_FUZZ_CLOCK_H

#include "engine/os/env.h"
#include "test/fuzz/fuzz.h"

#define FUZZ_LOOK_NS 1000u

static uint64_t fuzz_clock = 1000000000; /* one thread uses it */

static inline uint64_t fuzz_now(skv_env *env) {
  (void)env;
  return fuzz_clock += FUZZ_LOOK_NS;
}
static inline void fuzz_sleep(skv_env *env, uint64_t ns) {
  (void)env;
  fuzz_clock += ns;
}
static inline void fuzz_wait(skv_env *env, const uint32_t *word, uint32_t value,
                             uint64_t timeout_ns) {
  (void)env;
  if (__atomic_load_n(word, __ATOMIC_ACQUIRE) == value)
    fuzz_clock += timeout_ns;
}
static inline void fuzz_wake(skv_env *env, const uint32_t *word) {
  (void)env;
  (void)word;
}
static inline void fuzz_boot_id(skv_env *env, uint8_t id[16]) {
  (void)env;
  memcpy(id, "fuzz boot id....", 16);
}

static inline void fuzz_env_clock(skv_env *env) {
  env->now = fuzz_now;
  env->sleep = fuzz_sleep;
  env->wait = fuzz_wait;
  env->wake = fuzz_wake;
  env->boot_id = fuzz_boot_id;
}

#endif
