/* SPDX-License-Identifier: Apache-2.0 */
/* yaml.h: a YAML text as the tree of json.h: model cards, merge files.
 *
 * libyaml reads the events; scalars become what PyYAML's safe_load (YAML 1.1) makes of them: null,
 * bool, integers (any base; as decimal text), floats, else strings (timestamps and sexagesimal
 * numbers too). Anchors, aliases and merge keys are followed. Bounded: nesting LB_JSON_DEPTH,
 * LB_YAML_NODES_MAX nodes (an alias counts what it stands for), LB_YAML_KEYS_MAX keys in one
 * mapping. Each node knows its line: a member that of its key, an alias its own, what a merge key
 * brings that of the original. */
#ifndef LB_IO_YAML_H
#define LB_IO_YAML_H

#include "base/base.h"
#include "base/mem.h"
#include "io/json.h"

#define LB_YAML_NODES_MAX ((u64)1 << 20)
#define LB_YAML_KEYS_MAX 10000

enum {
    LB_YAML_LAST_WINS = 1
}; /* a repeated key replaces the value before, as PyYAML does; else refused */

/* One document; an empty text gives null. A bool keeps its text as written, a number has JSON's
 * form
 * ("1_000" is 1000, ".5" 0.5). what names the text in errors, which carry the line.
 * LB_E_FORMAT, LB_E_LIMIT, LB_E_UNSUPPORTED (a tag that is not of YAML's core), LB_E_NOMEM. */
lb_status lb_yaml_parse(lb_str text, const char *what, u32 flags, lb_arena *perm, lb_json **out,
                        lb_err *err);
/* The same for a text of several documents (`---`): *out is the array of them. An empty document is
 * null; an empty text has none. */
lb_status lb_yaml_parse_all(lb_str text, const char *what, u32 flags, lb_arena *perm, lb_json **out,
                            lb_err *err);

#endif
