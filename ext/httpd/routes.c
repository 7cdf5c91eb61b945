/* The search of routes.h. */
#include "ext/httpd/routes.h"

#include <stdio.h>
#include <string.h>

static bool route_is(const skvd_route *route, const skvd_target *target) {
  size_t len = strlen(route->path);
  if (target->path_len < len) return false;
  if (!route->is_prefix && target->path_len != len) return false;
  return memcmp(target->path, route->path, len) == 0;
}

static const skvd_route *route_search(const skvd_route *routes, size_t count,
                                      const skvd_target *target) {
  for (size_t i = 0; i < count; i++) {
    if (route_is(&routes[i], target)) return &routes[i];
  }
  return NULL;
}

const skvd_route *skvd_routes_find(const skvd_target *target, bool has_legacy) {
  const skvd_route *route =
      route_search(skvd_kv_routes, skvd_kv_route_count, target);
  if (route == NULL) {
    route = route_search(skvd_state_routes, skvd_state_route_count, target);
  }
  if (route == NULL) {
    route = route_search(skvd_admin_routes, skvd_admin_route_count, target);
  }
  if (route == NULL && has_legacy) {
    route = route_search(skvd_legacy_routes, skvd_legacy_route_count, target);
  }
  return route;
}

const skvd_action *skvd_route_action(const skvd_route *route,
                                     const char *method) {
  if (strcmp(method, "HEAD") == 0) method = "GET";
  for (const skvd_action *a = route->actions; a->method != NULL; a++) {
    if (strcmp(a->method, method) == 0) return a;
  }
  return NULL;
}

void skvd_route_allow(const skvd_route *route, char *out, size_t size) {
  size_t len = 0;
  out[0] = 0;
  for (const skvd_action *a = route->actions; a->method != NULL; a++) {
    const char *head = strcmp(a->method, "GET") == 0 ? ", HEAD" : "";
    int n = snprintf(out + len, size - len, "%s%s%s", len > 0 ? ", " : "",
                     a->method, head);
    if (n < 0 || (size_t)n >= size - len) return;
    len += (size_t)n;
  }
}
