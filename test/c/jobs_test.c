/*
 * The daemon's jobs (ext/httpd/jobs.h), with work that ends when it is let.
 *
 *   1  what ended last is kept, however long ago it began
 *   2  stopping: who waits is told, what was not begun is not done
 *   3  without memory a job is described as a whole, or not at all
 *   4  without memory a verify or backup fails, or says what came of it
 */
#include <pthread.h>
#include <stdlib.h>
#include <string.h>

#include "ext/httpd/jobs.h"
#include "test/c/check.h"
#include "test/c/real_dir.h"

/* ---- Work ---------------------------------------------------------------- */

static struct gate {
  pthread_mutex_t mutex;
  pthread_cond_t moved;
  bool is_open; /* for a verify; other work does not wait */
  unsigned begun[SKVD_JOB_KINDS];
  unsigned told; /* waiters */
} gate = {.mutex = PTHREAD_MUTEX_INITIALIZER,
          .moved = PTHREAD_COND_INITIALIZER};

/* In place of skvd_job_do. */
int __wrap_skvd_job_do(const skvd_job_work *work, stratakv_error *error,
                       json_t **result);

int __wrap_skvd_job_do(const skvd_job_work *work, stratakv_error *error,
                       json_t **result) {
  (void)error;
  pthread_mutex_lock(&gate.mutex);
  gate.begun[work->kind]++;
  pthread_cond_broadcast(&gate.moved);
  while (work->kind == SKVD_VERIFY && !gate.is_open)
    pthread_cond_wait(&gate.moved, &gate.mutex);
  pthread_mutex_unlock(&gate.mutex);
  *result = json_pack("{s:b,s:i,s:[{s:s,s:i},{s:n}]}", "clean", 0, "damaged", 1,
                      "findings", "file", "000001.seg", "offset", 7, "file");
  return STRATAKV_OK;
}

static void open_gate(void) {
  pthread_mutex_lock(&gate.mutex);
  gate.is_open = true;
  pthread_cond_broadcast(&gate.moved);
  pthread_mutex_unlock(&gate.mutex);
}

static void told(void *unused) {
  (void)unused;
  pthread_mutex_lock(&gate.mutex);
  gate.told++;
  pthread_cond_broadcast(&gate.moved);
  pthread_mutex_unlock(&gate.mutex);
}

static void wait_for(const unsigned *what, unsigned count) {
  pthread_mutex_lock(&gate.mutex);
  while (*what < count) pthread_cond_wait(&gate.moved, &gate.mutex);
  pthread_mutex_unlock(&gate.mutex);
}

/* ---- Tests --------------------------------------------------------------- */

static json_t *describe(skvd_jobs *jobs, uint64_t id) {
  json_t *json;
  skvd_problem problem = skvd_jobs_describe(jobs, id, &json);
  CHECK(problem == (json != NULL ? SKVD_NO_PROBLEM : SKVD_JOB_NOT_FOUND));
  return json;
}

static bool is_in_state(skvd_jobs *jobs, uint64_t id, const char *state) {
  json_t *json = describe(jobs, id);
  const char *is = json_string_value(json_object_get(json, "state"));
  bool same = is != NULL && strcmp(is, state) == 0;
  json_decref(json);
  return same;
}

static bool is_known(skvd_jobs *jobs, uint64_t id) {
  json_t *json = describe(jobs, id);
  json_decref(json);
  return json != NULL;
}

static void begin(skvd_jobs *jobs, skvd_job_kind kind, skvd_waiter *waiter,
                  uint64_t *id) {
  *waiter = (skvd_waiter){.done = told};
  CHECK(skvd_jobs_begin(jobs, kind, SKVD_JOB_AFTER, NULL, waiter, id) ==
        SKVD_NO_PROBLEM);
}

static void test_kept(void) {
  skvd_jobs *jobs = skvd_jobs_start(NULL, NULL);
  skvd_waiter slow, quick;
  uint64_t id, first, last;
  if (!CHECK(jobs != NULL)) return;
  begin(jobs, SKVD_VERIFY, &slow, &id);
  begin(jobs, SKVD_FLUSH, &quick, &first);
  wait_for(&gate.told, 1);
  for (unsigned i = 1; i <= SKVD_JOBS_KEPT; i++) {
    begin(jobs, SKVD_FLUSH, &quick, &last);
    wait_for(&gate.told, i + 1);
    CHECK(quick.is_finished && is_in_state(jobs, last, "done"));
  }
  CHECK(!is_known(jobs, first) && is_known(jobs, first + 1));
  CHECK(is_in_state(jobs, id, "running"));
  open_gate();
  wait_for(&gate.told, SKVD_JOBS_KEPT + 2);
  CHECK(slow.is_finished && slow.code == STRATAKV_OK);
  CHECK(is_in_state(jobs, id, "done"));
  CHECK(!is_known(jobs, first + 1) && is_known(jobs, first + 2));
  skvd_jobs_stop(jobs);
  skvd_jobs_free(jobs);
}

static void *stop_jobs(void *jobs) {
  skvd_jobs_stop(jobs);
  return NULL;
}

static void test_stop(void) {
  skvd_jobs *jobs = skvd_jobs_start(NULL, NULL);
  skvd_waiter running, queued;
  uint64_t id, behind, none;
  pthread_t stopper;
  if (!CHECK(jobs != NULL)) return;
  gate.is_open = false;
  gate.told = gate.begun[SKVD_VERIFY] = 0;
  begin(jobs, SKVD_VERIFY, &running, &id);
  wait_for(&gate.begun[SKVD_VERIFY], 1);
  begin(jobs, SKVD_VERIFY, &queued, &behind);
  CHECK(behind != id);
  CHECK(skvd_jobs_begin(jobs, SKVD_VERIFY, SKVD_JOB_ALONE, NULL, NULL, &none) ==
        SKVD_JOB_RUNNING);
  pthread_create(&stopper, NULL, stop_jobs, jobs);
  while (skvd_jobs_begin(jobs, SKVD_FLUSH, SKVD_JOB_AFTER, NULL, NULL, &none) !=
         SKVD_STOPPING) {
  }
  open_gate();
  pthread_join(stopper, NULL);
  CHECK(running.is_finished && running.code == STRATAKV_OK);
  CHECK(queued.is_finished && queued.code == STRATAKV_INTERRUPT);
  CHECK(gate.told == 2 && gate.begun[SKVD_VERIFY] == 1);
  CHECK(is_in_state(jobs, behind, "failed"));
  skvd_jobs_free(jobs);
}

/* ---- Memory -------------------------------------------------------------- */

static unsigned json_calls, json_nth; /* that one fails, 0 is none */

static void *json_failing(size_t size) {
  return ++json_calls == json_nth ? NULL : malloc(size);
}

static void test_describe(void) {
  skvd_jobs *jobs = skvd_jobs_start(NULL, NULL);
  skvd_waiter waiter;
  uint64_t id;
  json_t *whole;
  if (!CHECK(jobs != NULL)) return;
  gate.told = 0;
  begin(jobs, SKVD_FLUSH, &waiter, &id);
  wait_for(&gate.told, 1);
  json_set_alloc_funcs(json_failing, free);
  whole = describe(jobs, id);
  json_calls = 0;
  json_decref(describe(jobs, id));
  unsigned calls = json_calls;
  CHECK(calls > 20);
  for (unsigned n = 1; n <= calls; n++) {
    json_t *json;
    skvd_problem problem;
    json_calls = 0;
    json_nth = n;
    problem = skvd_jobs_describe(jobs, id, &json);
    json_nth = 0;
    CHECK(problem == SKVD_OVERLOADED ? json == NULL : json_equal(json, whole));
    json_decref(json);
  }
  json_set_alloc_funcs(malloc, free);
  json_decref(whole);
  skvd_jobs_stop(jobs);
  skvd_jobs_free(jobs);
}

int __real_skvd_job_do(const skvd_job_work *work, stratakv_error *error,
                       json_t **result);

static int no_progress(void *arg, double done) {
  (void)arg;
  (void)done;
  return 0;
}

/* Has the result what the kind's must have? */
static bool is_told(const skvd_job_work *work, const json_t *result) {
  if (work->kind == SKVD_BACKUP)
    return json_integer_value(json_object_get(result, "version")) > 0;
  return json_is_true(json_object_get(result, "clean")) &&
         json_is_array(json_object_get(result, "findings"));
}

static void do_failing(const skvd_job_work *work) {
  bool is_done = false;
  json_set_alloc_funcs(json_failing, free);
  for (unsigned n = 1; !is_done && n < 100; n++) {
    stratakv_error error = {0, ""};
    json_t *result;
    json_calls = 0;
    json_nth = n;
    int rc = __real_skvd_job_do(work, &error, &result);
    is_done = json_calls < n;
    json_nth = 0;
    if (rc == STRATAKV_OK) {
      CHECK(is_told(work, result));
    } else {
      CHECK(rc == STRATAKV_NOMEM && error.code == rc && result == NULL &&
            strcmp(error.message, "out of memory") == 0);
    }
    json_decref(result);
  }
  json_set_alloc_funcs(malloc, free);
  CHECK(is_done);
}

static void test_work(void) {
  skvd_job_work work = {.name = "backup", .progress = no_progress};
  stratakv_options options;
  stratakv_table_info table;
  stratakv_options_init(&options);
  options.create = 1;
  work.base = real_dir;
  if (!CHECK(stratakv_open(real_path("store"), &options, NULL, &work.store) ==
             STRATAKV_OK))
    return;
  CHECK(stratakv_table(work.store, "kv", 0, 1, NULL, &table) == STRATAKV_OK);
  CHECK(stratakv_put(work.store, table.id, "k", 1, "v", 1, NULL, NULL) ==
        STRATAKV_OK);
  work.kind = SKVD_VERIFY;
  do_failing(&work);
  work.kind = SKVD_BACKUP;
  do_failing(&work);
  CHECK(stratakv_close(work.store, NULL) == STRATAKV_OK);
}

int main(void) {
  test_kept();
  test_stop();
  test_describe();
  real_dir_make_quick("jobs_test");
  test_work();
  real_dir_remove();
  return check_end();
}
