/*
 * The mutator of every target: one change or a few, then repair. It is called
 * by libFuzzer and by fuzz_replay.c alike.
 *
 * It also watches what the engine allocates, in both builds.
 */
#include "engine/os/env_mem.h"
#include "engine/util/alloc.h"
#include "test/fuzz/fuzz.h"

/* The in-memory environment reserves address space for each file. */
static int mutate_watch(void *arg, size_t size) {
  SKV_UNUSED(arg);
  FUZZ_CHECK(size <= FUZZ_MAX_ALLOCATION || size == SKV_MEM_FILE_MAX);
  return 0;
}

__attribute__((constructor)) static void mutate_begin(void) {
  skv_alloc_set_hook(mutate_watch, NULL);
}

size_t LLVMFuzzerCustomMutator(uint8_t *data, size_t size, size_t max,
                               unsigned seed) {
  skv_prng rng = {seed};
  uint64_t changes = 1 + skv_prng_below(&rng, 3);
  for (uint64_t i = 0; i < changes; i++)
    size = LLVMFuzzerMutate(data, size, max);
  if (skv_prng_below(&rng, 8) == 0) return size;
  return fuzz_repair(data, size, max, &rng);
}
