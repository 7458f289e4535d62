/* SPDX-License-Identifier: Apache-2.0 */
/* json_schema.h: a JSON schema as a GBNF grammar: what the grammar writes is JSON that the schema
 * holds valid.
 *
 * docs/grammars.md lists the keywords. What cannot be said in a grammar is refused with its name
 * and JSON pointer; nothing is ignored but annotations. The grammar may write less than the schema
 * allows (properties in the order in which the schema has them, no further ones unless
 * additionalProperties says so), never more; oneOf alone is read as anyOf, as llama.cpp does. */
#ifndef LB_TEXT_JSON_SCHEMA_H
#define LB_TEXT_JSON_SCHEMA_H

#include "io/json.h"

/* Appends the grammar, whose root is "root"; it compiles (grammar.h). LB_E_UNSUPPORTED, LB_E_FORMAT
 * (a keyword's value is malformed, or the schema contradicts itself), LB_E_LIMIT: "schema: POINTER:
 * why". */
lb_status lb_json_schema_grammar(const lb_json *schema, lb_buf *out, lb_err *err);
/* Any JSON value, or any JSON object. */
lb_status lb_json_grammar(bool object, lb_buf *out, lb_err *err);

#endif
