/* SPDX-License-Identifier: Apache-2.0 */
/* help.c: what people read about the commands, from the tables: --help, docs/cli.md, the man page.
 */
#include "cli/facts.h"
#include "cli/opt.h"

#define HELP_COLUMNS 80
#define HELP_INDENT 30 /* where an option's text starts */
#define HELP_WORDS_MAX 48

/* Appends words, wrapped at HELP_COLUMNS; col is where the cursor stands, indent where lines start.
 */
static void put_wrapped(lb_buf *out, const char *text, u32 col, u32 indent) {
    bool first = true;
    while (*text) {
        size_t n = strcspn(text, " ");
        if (!first && col + 1 + n > HELP_COLUMNS) {
            lb_buf_printf(out, "\n%*s", (int)indent, "");
            col = indent;
        } else if (!first) {
            lb_buf_put_c(out, " ");
            col++;
        }
        lb_buf_put(out, text, n);
        col += (u32)n;
        text += n;
        text += strspn(text, " ");
        first = false;
    }
    lb_buf_put_c(out, "\n");
}

/* "-t, --threads N" */
static void put_option_head(lb_buf *out, const lb_opt *o) {
    if (o->short_name)
        lb_buf_printf(out, "-%c, ", o->short_name);
    lb_buf_printf(out, "--%s", o->name);
    if (o->kind != LB_OPT_FLAG)
        lb_buf_printf(out, " %s", o->arg);
}

/* "number of threads (default: all cores)" */
static void put_option_text(lb_buf *out, const lb_opt *o) {
    lb_buf_put_c(out, o->help);
    if (o->required)
        lb_buf_put_c(out, " (required)");
    if (o->repeatable)
        lb_buf_put_c(out, " (may be repeated)");
    if (o->initial)
        lb_buf_printf(out, " (default %s)", o->initial);
}

static bool has_visible(const lb_opt_group *g) {
    for (u32 i = 0; i < g->n; i++)
        if (!g->opts[i].hidden && !g->opts[i].alias_of)
            return true;
    return false;
}

/* "a|b|c" as "a, b, c: " */
static void put_words(lb_buf *out, const char *words) {
    for (; *words; words++)
        lb_buf_printf(out, *words == '|' ? ", " : "%c", *words);
    lb_buf_put_c(out, ": ");
}

static void put_option(lb_buf *out, const lb_opt *o) {
    lb_buf head = {0}, text = {0};
    lb_opt short_one = *o;
    bool listed = o->kind == LB_OPT_ENUM && strlen(o->arg) > HELP_WORDS_MAX;
    if (listed) { /* the words stand in the text */
        short_one.arg = "WORD";
        put_words(&text, o->arg);
    }
    lb_buf_put_c(&head, o->short_name ? "  " : "      ");
    put_option_head(&head, &short_one);
    put_option_text(&text, o);
    lb_buf_put_u8(&text, 0);
    lb_buf_put_str(out, lb_buf_str(&head));
    if (head.len + 2 > HELP_INDENT)
        lb_buf_printf(out, "\n%*s", HELP_INDENT, "");
    else
        lb_buf_printf(out, "%*s", HELP_INDENT - (int)head.len, "");
    if (!text.oom)
        put_wrapped(out, (const char *)text.ptr, HELP_INDENT, HELP_INDENT);
    out->oom = out->oom || head.oom || text.oom;
    lb_buf_deinit(&head);
    lb_buf_deinit(&text);
}

static const char *usage_options(const lb_command *c) {
    return has_visible(&c->group[0]) || c->group[1].n ? " [OPTION]..." : "";
}

void lb_help_command(lb_buf *out, const lb_command *c) {
    lb_buf_printf(out, "lbrx %s: ", c->name);
    put_wrapped(out, c->summary, 7 + (u32)strlen(c->name), 0);
    lb_buf_printf(out, "\nUsage: lbrx %s%s%s%s\n\nExamples:\n", c->name, *c->args ? " " : "",
                  c->args, usage_options(c));
    for (u32 i = 0; i < LB_LEN(c->examples) && c->examples[i].command; i++)
        lb_buf_printf(out, "  # %s\n  %s\n", c->examples[i].text, c->examples[i].command);
    for (u32 g = 0; g < LB_OPT_GROUPS_MAX; g++) {
        if (!has_visible(&c->group[g]))
            continue;
        lb_buf_printf(out, "\n%s:\n", c->group[g].title);
        for (u32 i = 0; i < c->group[g].n; i++)
            if (!c->group[g].opts[i].hidden && !c->group[g].opts[i].alias_of)
                put_option(out, &c->group[g].opts[i]);
    }
    if (c->details) {
        lb_buf_put_c(out, "\n");
        put_wrapped(out, c->details, 0, 0);
    }
}

static void put_summary(lb_buf *out, const lb_command *c) {
    lb_buf_printf(out, "  %-16s ", c->name);
    put_wrapped(out, c->summary, 19, 19);
}

bool lb_help_verbs(lb_buf *out, const lb_command *const *commands, u32 n, const char *word) {
    const size_t len = strlen(word);
    bool any = false;
    for (u32 i = 0; i < n; i++)
        if (strncmp(commands[i]->name, word, len) == 0 && commands[i]->name[len] == ' ') {
            put_summary(out, commands[i]);
            any = true;
        }
    return any;
}

void lb_help_all(lb_buf *out, const lb_command *const *commands, u32 n) {
    lb_buf_put_c(
        out, "lbrx converts, quantizes, merges and runs language models, in a memory budget.\n\n"
             "Usage: lbrx COMMAND [ARGUMENT]... [OPTION]...\n\nCommands:\n");
    for (u32 i = 0; i < n; i++)
        if (!commands[i]->hidden)
            put_summary(out, commands[i]);
    lb_buf_put_c(out, "\n");
    put_wrapped(
        out,
        "A MODEL is a Hugging Face or MLX folder, a .gguf file (of a split one the first "
        "part), a .safetensors file, a PyTorch file (.bin, .pt, .pth), hf://OWNER/NAME from "
        "the local cache of the Hugging Face tools, MODEL+ADAPTER, or a file that says what to "
        "merge (.yml).",
        0, 0);
    lb_buf_put_c(out,
                 "\n'lbrx help COMMAND' or 'lbrx COMMAND --help' shows one, 'lbrx --version' the\n"
                 "version.\n");
}

/* ---- docs/cli.md ---- */

/* A bar would end the cell, also inside of code. */
static void put_md_cell(lb_buf *out, const lb_buf *text) {
    for (size_t k = 0; k < text->len; k++) {
        if (text->ptr[k] == '|')
            lb_buf_put_c(out, "\\");
        lb_buf_put_u8(out, text->ptr[k]);
    }
    out->oom = out->oom || text->oom;
}

static void put_md_table(lb_buf *out, const lb_opt_group *g) {
    lb_buf_printf(out, "%s:\n\n| option | meaning |\n|---|---|\n", g->title);
    for (u32 i = 0; i < g->n; i++) {
        const lb_opt *o = &g->opts[i];
        lb_buf row = {0};
        if (o->hidden || o->alias_of)
            continue;
        put_option_head(&row, o);
        lb_buf_put_c(out, "| `");
        put_md_cell(out, &row);
        lb_buf_put_c(out, "` | ");
        lb_buf_reset(&row);
        put_option_text(&row, o);
        put_md_cell(out, &row);
        lb_buf_put_c(out, " |\n");
        lb_buf_deinit(&row);
    }
    lb_buf_put_c(out, "\n");
}

static void put_md_exit_codes(lb_buf *out) {
    lb_buf_put_c(out, "## Exit codes\n\n| code | meaning |\n|---|---|\n");
    for (u32 i = 0; i < lb_exit_count(); i++)
        lb_buf_printf(out, "| %d | %s |\n", lb_exit_get(i)->code, lb_exit_get(i)->text);
    lb_buf_put_c(out, "\nAn error is one line on stderr: what is wrong, where, what to do.\n");
}

void lb_help_markdown(lb_buf *out, const lb_command *const *commands, u32 n) {
    lb_buf_put_c(out,
                 "# The commands of lbrx\n\nGenerated from the tables in src/cli by `make docs`; "
                 "`lbrx COMMAND --help` shows the same.\n\n");
    for (u32 i = 0; i < n; i++) {
        const lb_command *c = commands[i];
        if (c->hidden)
            continue;
        lb_buf_printf(out, "## lbrx %s\n\n%s\n\n```\nlbrx %s%s%s%s\n```\n\n", c->name, c->summary,
                      c->name, *c->args ? " " : "", c->args, usage_options(c));
        for (u32 k = 0; k < LB_LEN(c->examples) && c->examples[k].command; k++)
            lb_buf_printf(out, "- %s: `%s`\n", c->examples[k].text, c->examples[k].command);
        lb_buf_put_c(out, "\n");
        for (u32 g = 0; g < LB_OPT_GROUPS_MAX; g++)
            if (has_visible(&c->group[g]))
                put_md_table(out, &c->group[g]);
        if (c->details)
            lb_buf_printf(out, "%s\n\n", c->details);
    }
    put_md_exit_codes(out);
}

/* ---- lbrx.1 ---- */

/* Roff: a dash is \-, a backslash \e, and a line must not start with a dot or a quote. */
static void put_roff(lb_buf *out, const char *text) {
    if (*text == '.' || *text == '\'')
        lb_buf_put_c(out, "\\&");
    for (; *text; text++) {
        if (*text == '-')
            lb_buf_put_c(out, "\\-");
        else if (*text == '\\')
            lb_buf_put_c(out, "\\e");
        else
            lb_buf_put_u8(out, (u8)*text);
    }
}

static void put_man_command(lb_buf *out, const lb_command *c) {
    lb_buf_printf(out, ".SS \"lbrx %s %s\"\n", c->name, c->args);
    put_roff(out, c->summary);
    lb_buf_put_c(out, "\n");
    for (u32 g = 0; g < LB_OPT_GROUPS_MAX; g++)
        for (u32 i = 0; i < c->group[g].n; i++) {
            const lb_opt *o = &c->group[g].opts[i];
            lb_buf text = {0};
            if (o->hidden || o->alias_of)
                continue;
            put_option_head(&text, o);
            lb_buf_put_u8(&text, 0);
            lb_buf_put_c(out, ".TP\n.B ");
            if (!text.oom)
                put_roff(out, (const char *)text.ptr);
            lb_buf_put_c(out, "\n");
            lb_buf_reset(&text);
            put_option_text(&text, o);
            lb_buf_put_u8(&text, 0);
            if (!text.oom)
                put_roff(out, (const char *)text.ptr);
            lb_buf_put_c(out, "\n");
            out->oom = out->oom || text.oom;
            lb_buf_deinit(&text);
        }
    if (c->details) {
        lb_buf_put_c(out, ".PP\n");
        put_roff(out, c->details);
        lb_buf_put_c(out, "\n");
    }
}

void lb_help_man(lb_buf *out, const lb_command *const *commands, u32 n) {
    lb_buf_put_c(out,
                 ".TH LBRX 1 \"\" \"lbrx " LB_VERSION "\"\n.SH NAME\n"
                 "lbrx \\- converts, quantizes, merges and runs language models\n"
                 ".SH SYNOPSIS\n.B lbrx\n.I COMMAND\n[ARGUMENT]... [OPTION]...\n.SH COMMANDS\n");
    for (u32 i = 0; i < n; i++)
        if (!commands[i]->hidden)
            put_man_command(out, commands[i]);
    lb_buf_put_c(out, ".SH EXIT STATUS\n");
    for (u32 i = 0; i < lb_exit_count(); i++) {
        lb_buf_printf(out, ".TP\n.B %d\n", lb_exit_get(i)->code);
        put_roff(out, lb_exit_get(i)->text);
        lb_buf_put_c(out, "\n");
    }
    lb_buf_put_c(out, ".SH ENVIRONMENT\n");
    for (u32 i = 0; i < lb_env_count(); i++) {
        lb_buf_printf(out, ".TP\n.B %s\n", lb_env_get(i)->name);
        put_roff(out, lb_env_get(i)->text);
        lb_buf_put_c(out, "\n");
    }
}
