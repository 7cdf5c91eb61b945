/*
 * Fuzzing without libFuzzer: runs the inputs in files and directories, then
 * mutations of them from a seed, always the same ones.
 *
 *   NAME_fuzz [-execs N] [-seed S] FILE|DIRECTORY...
 *
 * What fails is written to build/tmp/NAME_fuzz.input, and the line that
 * repeats it is printed. One input may take 5 s of CPU time.
 */
#include <dirent.h>
#include <signal.h>
#include <sys/stat.h>
#include <sys/time.h>
#include <unistd.h>

#include "test/fuzz/fuzz.h"

#define REPLAY_SECONDS 5

typedef struct replay_input {
  char *name;
  uint8_t *bytes;
  size_t size;
} replay_input;

static replay_input *inputs;
static size_t input_count;

/* What is running, for the handlers. */
static const uint8_t *volatile now_bytes;
static volatile size_t now_size;
static volatile uint64_t now_number;
static char fail_path[256], fail_line[600];

static skv_prng rng;

/* ---- Failures ---------------------------------------------------------- */

static void replay_failed(int signal_number) {
  FILE *f = fopen(fail_path, "wb"); /* nothing better can be done by now */
  if (f != NULL && now_bytes != NULL)
    fwrite((const void *)now_bytes, 1, now_size, f);
  if (f != NULL) fclose(f);
  ssize_t n = write(STDOUT_FILENO, fail_line, strlen(fail_line));
  (void)n;
  signal(signal_number, SIG_DFL);
  raise(signal_number);
}

static void replay_tick(int signal_number) {
  static uint64_t last, seconds;
  (void)signal_number;
  seconds = last == now_number ? seconds + 1 : 0;
  last = now_number;
  if (seconds >= REPLAY_SECONDS) abort();
}

static void replay_watch(const char *program) {
  const char *slash = strrchr(program, '/');
  snprintf(fail_path, sizeof fail_path, "build/tmp/%.100s.input",
           slash ? slash + 1 : program);
  mkdir("build", 0777);
  mkdir("build/tmp", 0777);
  snprintf(fail_line, sizeof fail_line, "repeat: %.250s %s\n", program,
           fail_path);
  signal(SIGABRT, replay_failed);
  signal(SIGSEGV, replay_failed);
  signal(SIGBUS, replay_failed);
  signal(SIGFPE, replay_failed);
  signal(SIGPROF, replay_tick);
  struct itimerval every = {{1, 0}, {1, 0}};
  setitimer(ITIMER_PROF, &every, NULL);
}

/* ---- Inputs ------------------------------------------------------------ */

static void replay_add(const char *path) {
  FILE *f = fopen(path, "rb");
  if (f == NULL) {
    perror(path);
    exit(2);
  }
  inputs = realloc(inputs, (input_count + 1) * sizeof *inputs);
  if (inputs == NULL) abort();
  replay_input *in = &inputs[input_count++];
  in->name = strdup(path);
  in->bytes = fuzz_alloc(FUZZ_MAX_INPUT);
  in->size = fread(in->bytes, 1, FUZZ_MAX_INPUT, f);
  fclose(f);
}

static int replay_order(const void *a, const void *b) {
  return strcmp(((const replay_input *)a)->name,
                ((const replay_input *)b)->name);
}

static void replay_add_path(const char *path) {
  char name[4096];
  DIR *dir = opendir(path);
  if (dir == NULL) {
    replay_add(path);
    return;
  }
  for (struct dirent *e; (e = readdir(dir)) != NULL;) {
    if (e->d_name[0] == '.') continue;
    snprintf(name, sizeof name, "%s/%s", path, e->d_name);
    replay_add(name);
  }
  closedir(dir);
}

/* ---- Mutations --------------------------------------------------------- */

static size_t mutate_insert(uint8_t *data, size_t size, size_t max) {
  size_t n = 1 + skv_prng_below(&rng, 16);
  size_t at = skv_prng_below(&rng, size + 1);
  if (size + n > max) return size;
  memmove(data + at + n, data + at, size - at);
  skv_prng_fill(&rng, data + at, n);
  return size + n;
}

static size_t mutate_erase(uint8_t *data, size_t size) {
  size_t at = skv_prng_below(&rng, size);
  size_t n = 1 + skv_prng_below(&rng, size - at < 64 ? size - at : 64);
  memmove(data + at, data + at + n, size - at - n);
  return size - n;
}

static void mutate_number(uint8_t *data, size_t size) {
  static const uint64_t numbers[] = {
      0,   1,    7,      8,       64,         127,        128,
      255, 4096, 0xffff, 0x10000, 0x7fffffff, 0xffffffff, ~UINT64_C(0)};
  size_t n = (size_t)1 << skv_prng_below(&rng, 4);
  if (size < n) return;
  size_t at = skv_prng_below(&rng, size - n + 1);
  uint64_t v = 0;
  memcpy(&v, data + at, n);
  if (skv_prng_below(&rng, 2))
    v += skv_prng_below(&rng, 33) - 16;
  else
    v = numbers[skv_prng_below(&rng, sizeof numbers / sizeof *numbers)];
  memcpy(data + at, &v, n);
}

/* Bytes from here or from another input go to another place. */
static void mutate_copy(uint8_t *data, size_t size) {
  const uint8_t *from = data;
  size_t room = size;
  if (input_count > 0 && skv_prng_below(&rng, 2)) {
    const replay_input *in = &inputs[skv_prng_below(&rng, input_count)];
    from = in->bytes;
    room = in->size;
  }
  if (room == 0) return;
  size_t n = 1 + skv_prng_below(&rng, room < size ? room : size);
  if (n > 64) n = 64;
  memmove(data + skv_prng_below(&rng, size - n + 1),
          from + skv_prng_below(&rng, room - n + 1), n);
}

size_t LLVMFuzzerMutate(uint8_t *data, size_t size, size_t max) {
  uint64_t way = skv_prng_below(&rng, 16);
  if (size == 0 || way == 0) return mutate_insert(data, size, max);
  size_t at = skv_prng_below(&rng, size);
  if (way == 1) return mutate_erase(data, size);
  if (way == 2)
    mutate_copy(data, size);
  else if (way < 7)
    mutate_number(data, size);
  else if (way < 11)
    data[at] = (uint8_t)skv_prng_u64(&rng);
  else
    data[at] ^= (uint8_t)(1u << skv_prng_below(&rng, 8));
  return size;
}

/* ---- Running ----------------------------------------------------------- */

static void replay_run(const uint8_t *bytes, size_t size) {
  uint8_t *exact = malloc(size ? size : 1); /* for who watches its bounds */
  if (exact == NULL) abort();
  memcpy(exact, bytes, size);
  now_bytes = exact;
  now_size = size;
  now_number++;
  LLVMFuzzerTestOneInput(exact, size);
  now_bytes = NULL;
  free(exact);
}

static void replay_mutate(uint64_t execs) {
  uint8_t *data = fuzz_alloc(FUZZ_MAX_INPUT);
  for (uint64_t i = 0; i < execs; i++) {
    const replay_input *in = &inputs[skv_prng_below(&rng, input_count)];
    size_t size = in->size;
    size_t max = size + 256 < FUZZ_MAX_INPUT ? size + 256 : FUZZ_MAX_INPUT;
    memcpy(data, in->bytes, size);
    size =
        LLVMFuzzerCustomMutator(data, size, max, (unsigned)skv_prng_u64(&rng));
    replay_run(data, size);
  }
  free(data);
}

int main(int argc, char **argv) {
  uint64_t execs = 0, seed = 1;
  replay_watch(argv[0]);
  for (int i = 1; i < argc; i++) {
    if (strcmp(argv[i], "-execs") == 0 && i + 1 < argc)
      execs = strtoull(argv[++i], NULL, 10);
    else if (strcmp(argv[i], "-seed") == 0 && i + 1 < argc)
      seed = strtoull(argv[++i], NULL, 10);
    else
      replay_add_path(argv[i]);
  }
  if (input_count == 0) {
    fprintf(stderr, "%s: no inputs\n", argv[0]);
    return 2;
  }
  qsort(inputs, input_count, sizeof *inputs, replay_order);
  rng.state = seed;
  for (size_t i = 0; i < input_count; i++)
    replay_run(inputs[i].bytes, inputs[i].size);
  replay_mutate(execs);
  for (size_t i = 0; i < input_count; i++) {
    free(inputs[i].name);
    free(inputs[i].bytes);
  }
  printf("!count fuzz-replayed %zu\n", input_count);
  printf("!count fuzz-execs %llu\n", (unsigned long long)(input_count + execs));
  free(inputs);
  return 0;
}
