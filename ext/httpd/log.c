/* The writer of log.h. */
#include "ext/httpd/log.h"

#include <assert.h>
#include <poll.h>
#include <pthread.h>
#include <stdarg.h>
#include <stdbool.h>
#include <stdio.h>
#include <string.h>
#include <time.h>
#include <unistd.h>

#define LOG_LINE 4096 /* PIPE_BUF: written as a whole, or not at all */
#define LOG_STRING_END (LOG_LINE - 300) /* the rest of a line fits behind */
#define LOG_EVENTS_A_SECOND 10

typedef struct log_line {
  size_t len;
  char text[LOG_LINE];
} log_line;

static void log_raw(log_line *line, const char *text) {
  size_t len = strlen(text);
  assert(len <= LOG_LINE - line->len);
  memcpy(line->text + line->len, text, len);
  line->len += len;
}

/* A JSON string. Bytes from 0x80 on are escaped one by one, as Latin-1: the
 * log stays ASCII whatever a client sends. */
static void log_string(log_line *line, const char *text) {
  log_raw(line, "\"");
  for (; *text != 0 && line->len < LOG_STRING_END; text++) {
    unsigned char c = (unsigned char)*text;
    char out[8] = {(char)c, 0};
    if (c < 0x20 || c >= 0x7f) snprintf(out, sizeof out, "\\u%04x", c);
    if (c == '"' || c == '\\') snprintf(out, sizeof out, "\\%c", c);
    log_raw(line, out);
  }
  log_raw(line, "\"");
}

static void log_member(log_line *line, const char *name, const char *value) {
  log_raw(line, ",\"");
  log_raw(line, name);
  log_raw(line, "\":");
  log_string(line, value == NULL ? "-" : value);
}

static void log_begin(log_line *line) {
  struct timespec now;
  struct tm utc;
  char date[40], text[100];
  clock_gettime(CLOCK_REALTIME, &now);
  gmtime_r(&now.tv_sec, &utc);
  strftime(date, sizeof date, "%Y-%m-%dT%H:%M:%S", &utc);
  snprintf(text, sizeof text, "{\"time\":\"%s.%03ldZ\"", date,
           now.tv_nsec / 1000000);
  line->len = 0;
  log_raw(line, text);
}

/* Is there room for a line? Then the number of those left out before it. */
static bool log_has_room(unsigned *left_out) {
  static unsigned missed; /* under the mutex of log_end */
  struct pollfd room = {.fd = STDERR_FILENO, .events = POLLOUT};
  bool is_ready = poll(&room, 1, 0) == 1 && (room.revents & POLLOUT) != 0;
  *left_out = is_ready ? missed : 0;
  missed = is_ready ? 0 : missed + 1;
  return is_ready;
}

/* Close the line and write it, if nobody would have to wait for that. */
static void log_end(log_line *line) {
  static pthread_mutex_t mutex = PTHREAD_MUTEX_INITIALIZER;
  unsigned left_out;
  char text[40];
  pthread_mutex_lock(&mutex);
  if (log_has_room(&left_out)) {
    ssize_t n;
    snprintf(text, sizeof text, ",\"left_out\":%u", left_out);
    log_raw(line, left_out > 0 ? text : "");
    log_raw(line, "}\n");
    n = write(STDERR_FILENO, line->text, line->len);
    (void)n; /* there is nobody to tell */
  }
  pthread_mutex_unlock(&mutex);
}

void skvd_log_access(const skvd_log_request *request) {
  log_line line;
  char numbers[100];
  log_begin(&line);
  log_member(&line, "id", request->id);
  log_member(&line, "method", request->method);
  log_member(&line, "route", request->route);
  if (request->target != NULL) log_member(&line, "target", request->target);
  snprintf(numbers, sizeof numbers, ",\"status\":%u,\"bytes\":%llu,\"ms\":%.3f",
           request->status, (unsigned long long)request->bytes, request->ms);
  log_raw(&line, numbers);
  log_end(&line);
}

static void log_message(const char *level, const char *message) {
  log_line line;
  log_begin(&line);
  log_member(&line, "level", level);
  log_member(&line, "message", message);
  log_end(&line);
}

void skvd_log_event(const char *level, const char *format, ...) {
  char message[1024];
  va_list args;
  va_start(args, format);
  vsnprintf(message, sizeof message, format, args);
  va_end(args);
  log_message(level, message);
}

/* May one more line be written in this second? *left_out is how many were
 * not since the last one. */
static int log_take_turn(unsigned *left_out) {
  static pthread_mutex_t mutex = PTHREAD_MUTEX_INITIALIZER;
  static time_t second;
  static unsigned count, missed;
  struct timespec now;
  int is_ours;
  clock_gettime(CLOCK_MONOTONIC, &now);
  pthread_mutex_lock(&mutex);
  if (now.tv_sec != second) {
    second = now.tv_sec;
    count = 0;
  }
  is_ours = count < LOG_EVENTS_A_SECOND;
  *left_out = is_ours ? missed : 0;
  missed = is_ours ? 0 : missed + 1;
  count += is_ours ? 1 : 0;
  pthread_mutex_unlock(&mutex);
  return is_ours;
}

void skvd_log_client_event(const char *format, ...) {
  char message[512];
  unsigned left_out;
  va_list args;
  if (!log_take_turn(&left_out)) return;
  va_start(args, format);
  vsnprintf(message, sizeof message, format, args);
  va_end(args);
  if (left_out > 0) {
    skvd_log_event("warning", "%u messages left out", left_out);
  }
  message[strcspn(message, "\r\n")] = 0;
  log_message("warning", message);
}
