/* SPDX-License-Identifier: Apache-2.0 */
/* merge_methods.c: the table of merge methods as text. */
#include "cli/merge_methods.h"
#include "merge/method.h"

static const char *const scopes[] = {
    [LB_MERGE_SHARED] = "all", [LB_MERGE_INPUT] = "model", [LB_MERGE_NON_BASE] = "model"};
static const char *const bases[] = {
    [LB_BASE_IGNORED] = "none", [LB_BASE_OPTIONAL] = "optional", [LB_BASE_REQUIRED] = "required"};
static const char *const kinds[] = {[LB_MERGE_FLOAT] = "number",
                                    [LB_MERGE_INT] = "integer",
                                    [LB_MERGE_BOOL] = "bool",
                                    [LB_MERGE_FILE] = "file",
                                    [LB_MERGE_WORD] = "word"};

static void put_value(lb_buf *out, const lb_merge_param *p, const char *quote) {
    if (p->kind == LB_MERGE_WORD)
        lb_buf_printf(out, "%s%s%s", quote, p->words[(u32)p->initial], quote);
    else if (p->kind == LB_MERGE_BOOL)
        lb_buf_printf(out, "%s", p->initial != 0 ? "true" : "false");
    else
        lb_buf_printf(out, "%g", p->initial);
}

static bool has_value(const lb_merge_param *p) {
    return !p->required && p->initial == p->initial;
}

static bool has_range(const lb_merge_param *p) {
    return p->min != 0 || p->max != 0;
}

static void put_text(lb_buf *out, const lb_merge_method *m) {
    lb_buf_printf(out, "%-17s %s; base_model: %s; %s\n", m->name, m->title, bases[m->base],
                  m->source);
    for (u32 i = 0; i < m->n_params; i++) {
        const lb_merge_param *p = &m->params[i];
        lb_buf_printf(out, "  %-17s %s, %s, ", p->name,
                      p->scope == LB_MERGE_SHARED ? "of the merge" : "of each model",
                      kinds[p->kind]);
        if (p->required)
            lb_buf_printf(out, "required");
        else if (has_value(p))
            put_value(out, p, "");
        else
            lb_buf_printf(out, "by the method");
        for (u32 k = 0; p->words && p->words[k]; k++)
            lb_buf_printf(out, "%s%s", k ? " " : "; ", p->words[k]);
        if (has_range(p))
            lb_buf_printf(out, ", %g to %g", p->min, p->max);
        lb_buf_put_c(out, "\n");
    }
}

static void put_json(lb_buf *out, const lb_merge_method *m) {
    lb_buf_printf(out,
                  "{\"name\": \"%s\", \"title\": \"%s\", \"source\": \"%s\", \"base\": \"%s\", "
                  "\"min_models\": %u, \"max_models\": %u, \"min_beside_base\": %u, "
                  "\"max_beside_base\": %u, \"random\": %s, \"adapters\": %s, \"parameters\": [",
                  m->name, m->title, m->source, bases[m->base], m->min_in, m->max_in,
                  m->min_non_base, m->max_non_base, m->draws ? "true" : "false",
                  m->of_adapters ? "true" : "false");
    for (u32 i = 0; i < m->n_params; i++) {
        const lb_merge_param *p = &m->params[i];
        lb_buf_printf(out,
                      "%s{\"name\": \"%s\", \"of\": \"%s\", \"kind\": \"%s\", \"required\": %s",
                      i ? ", " : "", p->name, scopes[p->scope], kinds[p->kind],
                      p->required ? "true" : "false");
        if (has_value(p)) {
            lb_buf_printf(out, ", \"default\": ");
            put_value(out, p, "\"");
        }
        for (u32 k = 0; p->words && p->words[k]; k++)
            lb_buf_printf(out, "%s\"%s\"%s", k ? ", " : ", \"words\": [", p->words[k],
                          p->words[k + 1] ? "" : "]");
        if (has_range(p))
            lb_buf_printf(out, ", \"min\": %g, \"max\": %g", p->min, p->max);
        lb_buf_put_c(out, "}");
    }
    lb_buf_put_c(out, "]}");
}

void lb_cli_merge_methods(lb_buf *out, bool json) {
    const lb_merge_method *m;
    for (u32 i = 0; (m = lb_merge_method_at(i)); i++) {
        if (json) {
            lb_buf_put_c(out, i ? ",\n" : "[");
            put_json(out, m);
        } else {
            put_text(out, m);
        }
    }
    if (json)
        lb_buf_put_c(out, "]\n");
}
