/*
 * POST /v1/admin/flush, compact, verify, backup; GET /v1/admin/jobs/{id}.
 *
 * All four are jobs (jobs.h). flush waits for its end; the others answer 202
 * with the job's number at once, or, with ?wait=true, 200 with the job if it
 * ends within 55 s. A job that failed within that time is its problem.
 */
#include <inttypes.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/stat.h>

#include "ext/httpd/key.h"
#include "ext/httpd/request.h"
#include "ext/json/json.h"

#define ADMIN_MAX_NAME 64

/* A request for a job. */
typedef struct admin_order {
  skvd_waiter waiter;
  skvd_job_kind kind;
  skvd_job_how how;
  skvd_problem problem; /* why there is no job */
  uint64_t id;          /* of the job, or of the one in its way */
  char name[ADMIN_MAX_NAME + 1];
} admin_order;

/* ---- Answers ------------------------------------------------------------- */

static void admin_answer_number(skvd_request *request, uint64_t id) {
  skvd_answer_json(request, 202, "application/json",
                   json_pack("{s:I}", "job", (json_int_t)id));
}

static void admin_answer_job(skvd_request *request, uint64_t id) {
  json_t *json;
  switch (skvd_jobs_describe(request->app->jobs, id, &json)) {
  case SKVD_NO_PROBLEM:
    skvd_answer_json(request, 200, "application/json", json);
    break;
  case SKVD_JOB_NOT_FOUND:
    skvd_answer_problem(request, SKVD_JOB_NOT_FOUND,
                        "no such job, or over %d have ended since",
                        SKVD_JOBS_KEPT);
    break;
  default:
    skvd_answer_problem(request, SKVD_OVERLOADED, "out of memory");
    break;
  }
}

static void admin_refuse(skvd_request *request, const admin_order *order) {
  const char *kind = skvd_job_kind_name(order->kind);
  switch (order->problem) {
  case SKVD_JOB_RUNNING:
    skvd_answer_problem_with(request, order->problem,
                             json_pack("{s:I}", "job", (json_int_t)order->id),
                             "a %s is running: job %" PRIu64, kind, order->id);
    break;
  case SKVD_STOPPING:
    skvd_answer_problem(request, order->problem, "the daemon is stopping");
    break;
  default: skvd_answer_problem(request, order->problem, "out of memory"); break;
  }
}

/* Who waited is told. */
static void admin_finish(skvd_request *request) {
  const admin_order *order = request->state;
  const skvd_waiter *waiter = &order->waiter;
  if (order->problem != SKVD_NO_PROBLEM) {
    admin_refuse(request, order);
  } else if (!waiter->is_finished) {
    admin_answer_number(request, waiter->job);
  } else if (waiter->code != STRATAKV_OK) {
    skvd_answer_store_error(request, waiter->code, &waiter->error);
  } else {
    admin_answer_job(request, waiter->job);
  }
}

/* ---- Orders -------------------------------------------------------------- */

static void admin_done(void *request) { skvd_request_resume(request); }

/* The connection is suspended. Once the job is begun, the order may already be
 * on its way back. */
static void admin_submit(skvd_request *request) {
  admin_order *order = request->state;
  uint64_t id;
  skvd_problem problem =
      skvd_jobs_begin(request->app->jobs, order->kind, order->how, order->name,
                      &order->waiter, &id);
  if (problem == SKVD_NO_PROBLEM) return;
  order->problem = problem;
  order->id = id;
  skvd_request_resume(request);
}

/* ?wait= into *out. False: the request has an answer. */
static bool admin_wait(skvd_request *request, bool *out) {
  const skvd_param *wait = skvd_request_param(request, "wait");
  *out = false;
  if (wait == NULL) return true;
  *out = wait->value_len == 4 && memcmp(wait->value, "true", 4) == 0;
  if (*out || (wait->value_len == 5 && memcmp(wait->value, "false", 5) == 0)) {
    return true;
  }
  skvd_answer_problem(request, SKVD_INVALID_PARAMETER, "wait is true or false");
  return false;
}

static void admin_order_job(skvd_request *request, skvd_job_kind kind,
                            skvd_job_how how, const char *name, bool is_wait) {
  admin_order *order = calloc(1, sizeof *order);
  if (order == NULL) {
    skvd_answer_problem(request, SKVD_OVERLOADED, "out of memory");
    return;
  }
  order->waiter.done = admin_done;
  order->waiter.arg = request;
  order->kind = kind;
  order->how = how;
  if (name != NULL) snprintf(order->name, sizeof order->name, "%s", name);
  request->state = order;
  request->free_state = free;
  if (is_wait) {
    skvd_request_park(request, admin_submit, admin_finish);
    return;
  }
  order->problem = skvd_jobs_begin(request->app->jobs, kind, how, order->name,
                                   NULL, &order->id);
  if (order->problem == SKVD_NO_PROBLEM) {
    admin_answer_number(request, order->id);
  } else {
    admin_refuse(request, order);
  }
}

static void admin_flush(skvd_request *request) {
  admin_order_job(request, SKVD_FLUSH, SKVD_JOB_AFTER, NULL, true);
}

static void admin_compact(skvd_request *request) {
  bool is_wait;
  if (!admin_wait(request, &is_wait)) return;
  admin_order_job(request, SKVD_COMPACT, SKVD_JOB_ALONE, NULL, is_wait);
}

static void admin_verify(skvd_request *request) {
  bool is_wait;
  if (!admin_wait(request, &is_wait)) return;
  admin_order_job(request, SKVD_VERIFY, SKVD_JOB_ALONE, NULL, is_wait);
}

/* ---- Backup -------------------------------------------------------------- */

static bool admin_is_name(const char *name, size_t len) {
  static const char allowed[] = "ABCDEFGHIJKLMNOPQRSTUVWXYZabcdefghijklmnopq"
                                "rstuvwxyz0123456789._-";
  return len >= 1 && len <= ADMIN_MAX_NAME && name[0] != '.' &&
         strspn(name, allowed) == len;
}

/* The name in {"name":"mon"}, NULL if there is none. */
static const char *admin_name(const json_t *json) {
  const json_t *name = json_object_get(json, "name");
  if (json_object_size(json) != 1 || !json_is_string(name)) return NULL;
  if (!admin_is_name(json_string_value(name), json_string_length(name))) {
    return NULL;
  }
  return json_string_value(name);
}

/* Is there something of that name already? */
static bool admin_exists(const char *base, const char *name) {
  char path[4096];
  struct stat info;
  int n = snprintf(path, sizeof path, "%s/%s", base, name);
  return n > 0 && (size_t)n < sizeof path && lstat(path, &info) == 0;
}

static void admin_backup_json(skvd_request *request, const json_t *json,
                              bool is_wait) {
  const char *base = request->app->options->backup_dir;
  const char *name = admin_name(json);
  if (name == NULL) {
    skvd_answer_problem(request, SKVD_INVALID_VALUE,
                        "the body is {\"name\":\"...\"}, a name of 1 to 64 "
                        "letters, digits, '.', '_' and '-', not starting "
                        "with '.'");
  } else if (admin_exists(base, name)) {
    skvd_answer_problem(request, SKVD_BACKUP_EXISTS,
                        "there is a backup \"%s\" already", name);
  } else {
    admin_order_job(request, SKVD_BACKUP, SKVD_JOB_ALONE, name, is_wait);
  }
}

static void admin_backup(skvd_request *request) {
  skvd_body *body = &request->body;
  json_t *json = NULL;
  bool is_wait, no_memory = false;
  if (!admin_wait(request, &is_wait)) return;
  if (request->app->options->backup_dir == NULL) {
    skvd_answer_problem(request, SKVD_BACKUP_DISABLED,
                        "the daemon was started without --backup-dir");
    return;
  }
  if (body->size > 0 && skv_json_is_modest(skvd_body_data(body), body->size)) {
    json = skv_json_parse(skvd_body_data(body), body->size,
                          JSON_REJECT_DUPLICATES | JSON_ALLOW_NUL, NULL,
                          &no_memory);
  }
  if (no_memory) {
    skvd_answer_problem(request, SKVD_OVERLOADED, "out of memory");
    return;
  }
  if (json == NULL) {
    skvd_answer_problem(request, SKVD_INVALID_JSON, "the body is not JSON");
    return;
  }
  admin_backup_json(request, json, is_wait);
  json_decref(json);
}

/* ---- GET /v1/admin/jobs/{id} --------------------------------------------- */

static void admin_job(skvd_request *request) {
  size_t len;
  const char *tail = skvd_request_tail(request, &len);
  int64_t id;
  if (!skvd_parse_int64(tail, len, &id) || id < 0) id = 0; /* no job's */
  admin_answer_job(request, (uint64_t)id);
}

/* ---- The table ----------------------------------------------------------- */

static const char *const admin_no_params[] = {NULL};
static const char *const admin_params[] = {"wait", NULL};

#define ADMIN_ROUTE(path, method, flags, params, run)                          \
  {                                                                            \
    path, path, false, false, NULL, {                                          \
      {method, flags, params, run}, { NULL, 0, NULL, NULL }                    \
    }                                                                          \
  }

const skvd_route skvd_admin_routes[] = {
    ADMIN_ROUTE("/v1/admin/flush", "POST", 0, admin_no_params, admin_flush),
    ADMIN_ROUTE("/v1/admin/compact", "POST", 0, admin_params, admin_compact),
    ADMIN_ROUTE("/v1/admin/verify", "POST", 0, admin_params, admin_verify),
    ADMIN_ROUTE("/v1/admin/backup", "POST", SKVD_TAKES_BODY, admin_params,
                admin_backup),
    {"/v1/admin/jobs/{id}",
     "/v1/admin/jobs/",
     true,
     false,
     NULL,
     {{"GET", SKVD_STATE, admin_no_params, admin_job}, {NULL, 0, NULL, NULL}}},
};
const size_t skvd_admin_route_count =
    sizeof skvd_admin_routes / sizeof skvd_admin_routes[0];
