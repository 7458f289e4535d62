/* SPDX-License-Identifier: Apache-2.0 */
/* complete.c: completion scripts for bash, zsh and fish, from the same tables as the parser. */
#include "cli/opt.h"

static bool is_shown(const lb_opt *o) {
    return !o->hidden && !o->alias_of;
}

/* "auto|cpu": an ENUM, or a text of which some values are known. */
static bool has_choices(const lb_opt *o) {
    return o->kind == LB_OPT_ENUM || (o->kind == LB_OPT_STR && strchr(o->arg, '|'));
}

/* First words only: "lora fuse" and "lora extract" give "lora" once. */
static bool is_first_of_word(const lb_command *const *commands, u32 i) {
    size_t n = strcspn(commands[i]->name, " ");
    for (u32 k = 0; k < i; k++)
        if (strcspn(commands[k]->name, " ") == n &&
            memcmp(commands[k]->name, commands[i]->name, n) == 0)
            return false;
    return true;
}

/* Inside '...' of a shell: a quote becomes '\''. Zsh's descriptions also escape brackets and
 * colons. */
static void put_quoted(lb_buf *out, const char *text, bool zsh) {
    for (; *text; text++) {
        if (*text == '\'')
            lb_buf_put_c(out, "'\\''");
        else if (zsh && strchr("[]:\\", *text))
            lb_buf_printf(out, "\\%c", *text);
        else
            lb_buf_put_u8(out, (u8)*text);
    }
}

static void put_choices(lb_buf *out, const char *choices) {
    for (u32 i = 0; lb_choice(choices, i).len; i++)
        lb_buf_printf(out, "%s%.*s", i ? " " : "", LB_FMT(lb_choice(choices, i)));
}

static void put_names(lb_buf *out, const lb_command *const *commands, u32 n) {
    bool first = true;
    for (u32 i = 0; i < n; i++)
        if (!commands[i]->hidden && is_first_of_word(commands, i)) {
            lb_buf_printf(out, "%s%.*s", first ? "" : " ", (int)strcspn(commands[i]->name, " "),
                          commands[i]->name);
            first = false;
        }
}

/* What the words after a command are: files, but for the few that say otherwise. */
typedef enum words_kind { WORDS_FILES, WORDS_NONE, WORDS_CHOICES, WORDS_COMMANDS } words_kind;

static words_kind words_of(const lb_command *c) {
    if (!*c->args)
        return WORDS_NONE;
    if (strcmp(c->args, "[COMMAND]") == 0)
        return WORDS_COMMANDS;
    return strchr(c->args, '|') ? WORDS_CHOICES : WORDS_FILES;
}

/* The words themselves, where they are not files. */
static void put_words(lb_buf *out, const lb_command *c, const lb_command *const *commands, u32 n) {
    if (words_of(c) == WORDS_CHOICES)
        put_choices(out, c->args);
    else if (words_of(c) == WORDS_COMMANDS)
        put_names(out, commands, n);
}

static void bash_command(lb_buf *out, const lb_command *c, const lb_command *const *commands,
                         u32 n) {
    lb_buf_printf(out, "    '%s')\n        case $prev in\n", c->name);
    for (u32 g = 0; g < LB_OPT_GROUPS_MAX; g++)
        for (u32 i = 0; i < c->group[g].n; i++) {
            const lb_opt *o = &c->group[g].opts[i];
            if (!is_shown(o) || o->kind == LB_OPT_FLAG)
                continue;
            lb_buf_printf(out, "        --%s", o->name);
            if (o->short_name)
                lb_buf_printf(out, " | -%c", o->short_name);
            lb_buf_put_c(out, ") ");
            if (has_choices(o)) {
                lb_buf_put_c(out, "words='");
                put_choices(out, o->arg);
                lb_buf_put_c(out, "'; files= ;;\n");
            } else {
                lb_buf_put_c(out, o->kind == LB_OPT_PATH ? "words=; files=1 ;;\n"
                                                         : "words=; files= ;;\n");
            }
        }
    lb_buf_put_c(out, "        *) words='--help");
    for (u32 g = 0; g < LB_OPT_GROUPS_MAX; g++)
        for (u32 i = 0; i < c->group[g].n; i++)
            if (is_shown(&c->group[g].opts[i]))
                lb_buf_printf(out, " --%s", c->group[g].opts[i].name);
    if (words_of(c) == WORDS_CHOICES || words_of(c) == WORDS_COMMANDS) {
        lb_buf_put_c(out, " ");
        put_words(out, c, commands, n);
    }
    lb_buf_put_c(out, words_of(c) == WORDS_FILES ? "'; files=1 ;;\n        esac ;;\n"
                                                 : "'; files= ;;\n        esac ;;\n");
}

void lb_complete_bash(lb_buf *out, const lb_command *const *commands, u32 n) {
    lb_buf_put_c(out, "# bash completion for lbrx: source <(lbrx completion bash)\n"
                      "_lbrx() {\n"
                      "    local cur=${COMP_WORDS[COMP_CWORD]} prev=${COMP_WORDS[COMP_CWORD-1]}\n"
                      "    local words= files= name=${COMP_WORDS[1]}\n"
                      "    COMPREPLY=()\n"
                      "    if [ \"$COMP_CWORD\" -eq 1 ]; then\n"
                      "        COMPREPLY=($(compgen -W '");
    put_names(out, commands, n);
    lb_buf_put_c(
        out, " --help --version' -- \"$cur\"))\n        return\n    fi\n    case \"$name\" in\n");
    for (u32 i = 0; i < n; i++) /* commands of two words: the second is part of the name */
        if (!commands[i]->hidden && strchr(commands[i]->name, ' ') && is_first_of_word(commands, i))
            lb_buf_printf(out, "    %.*s) name=\"$name ${COMP_WORDS[2]}\" ;;\n",
                          (int)strcspn(commands[i]->name, " "), commands[i]->name);
    lb_buf_put_c(out, "    esac\n    case \"$name\" in\n");
    for (u32 i = 0; i < n; i++)
        if (!commands[i]->hidden)
            bash_command(out, commands[i], commands, n);
    lb_buf_put_c(out, "    esac\n"
                      "    case $cur in\n    -*) files= ;;\n    esac\n"
                      "    COMPREPLY=($(compgen -W \"$words\" -- \"$cur\"))\n"
                      "    if [ -n \"$files\" ]; then\n"
                      "        COMPREPLY+=($(compgen -f -- \"$cur\"))\n    fi\n}\n"
                      "complete -o filenames -F _lbrx lbrx\n");
}

static void zsh_option(lb_buf *out, const lb_opt *o) {
    lb_buf_put_c(out, " \\\n        ");
    if (o->short_name)
        lb_buf_printf(out, "'%s'{-%c,--%s}'[", o->repeatable ? "*" : "", o->short_name, o->name);
    else
        lb_buf_printf(out, "'%s--%s[", o->repeatable ? "*" : "", o->name);
    put_quoted(out, o->help, true);
    lb_buf_put_c(out, "]");
    if (has_choices(o)) {
        lb_buf_put_c(out, ":value:(");
        put_choices(out, o->arg);
        lb_buf_put_c(out, ")");
    } else if (o->kind == LB_OPT_PATH) {
        lb_buf_put_c(out, ":file:_files");
    } else if (o->kind != LB_OPT_FLAG) {
        lb_buf_put_c(out, ":value: ");
    }
    lb_buf_put_c(out, "'");
}

void lb_complete_zsh(lb_buf *out, const lb_command *const *commands, u32 n) {
    lb_buf_put_c(out,
                 "#compdef lbrx\n# zsh completion for lbrx: lbrx completion zsh >_lbrx in a folder "
                 "of $fpath\n"
                 "_lbrx() {\n    local -a names\n    names=(\n");
    for (u32 i = 0; i < n; i++)
        if (!commands[i]->hidden && is_first_of_word(commands, i)) {
            lb_buf_printf(out, "        '%.*s:", (int)strcspn(commands[i]->name, " "),
                          commands[i]->name);
            put_quoted(out, commands[i]->summary, false);
            lb_buf_put_c(out, "'\n");
        }
    lb_buf_put_c(out, "    )\n    if (( CURRENT == 2 )); then\n        _describe command names\n"
                      "        return\n    fi\n    local name=$words[2]\n    case $name in\n");
    for (u32 i = 0; i < n; i++)
        if (!commands[i]->hidden && strchr(commands[i]->name, ' ') && is_first_of_word(commands, i))
            lb_buf_printf(out,
                          "    %.*s) name=\"$name $words[3]\"; shift words; (( CURRENT-- )) ;;\n",
                          (int)strcspn(commands[i]->name, " "), commands[i]->name);
    lb_buf_put_c(out, "    esac\n    shift words\n    (( CURRENT-- ))\n    case $name in\n");
    for (u32 i = 0; i < n; i++) {
        const lb_command *c = commands[i];
        if (c->hidden)
            continue;
        lb_buf_printf(out, "    '%s') _arguments '--help[show the help]'", c->name);
        for (u32 g = 0; g < LB_OPT_GROUPS_MAX; g++)
            for (u32 k = 0; k < c->group[g].n; k++)
                if (is_shown(&c->group[g].opts[k]))
                    zsh_option(out, &c->group[g].opts[k]);
        if (words_of(c) == WORDS_FILES) {
            lb_buf_put_c(out, " '*:file:_files'");
        } else if (words_of(c) != WORDS_NONE) {
            lb_buf_put_c(out, " '*:word:(");
            put_words(out, c, commands, n);
            lb_buf_put_c(out, ")'");
        }
        lb_buf_put_c(out, " ;;\n");
    }
    lb_buf_put_c(out, "    esac\n}\nif [ \"$funcstack[1]\" = _lbrx ]; then\n    _lbrx\nelse\n"
                      "    compdef _lbrx lbrx\nfi\n");
}

static void fish_option(lb_buf *out, const lb_command *c, const lb_opt *o) {
    const char *second = strchr(c->name, ' ');
    lb_buf_printf(out, "complete -c lbrx -n '__fish_seen_subcommand_from %.*s",
                  (int)strcspn(c->name, " "), c->name);
    if (second)
        lb_buf_printf(out, "; and __fish_seen_subcommand_from %s", second + 1);
    lb_buf_printf(out, "' -l %s", o->name);
    if (o->short_name)
        lb_buf_printf(out, " -s %c", o->short_name);
    if (has_choices(o)) {
        lb_buf_put_c(out, " -x -a '");
        put_choices(out, o->arg);
        lb_buf_put_c(out, "'");
    } else if (o->kind == LB_OPT_PATH) {
        lb_buf_put_c(out, " -r -F");
    } else if (o->kind != LB_OPT_FLAG) {
        lb_buf_put_c(out, " -x");
    }
    lb_buf_put_c(out, " -d '");
    for (const char *s = o->help; *s; s++) { /* fish: a quote is \' inside quotes */
        if (*s == '\'' || *s == '\\')
            lb_buf_put_c(out, "\\");
        lb_buf_put_u8(out, (u8)*s);
    }
    lb_buf_put_c(out, "'\n");
}

void lb_complete_fish(lb_buf *out, const lb_command *const *commands, u32 n) {
    lb_buf_put_c(out, "# fish completion for lbrx: lbrx completion fish | source\n");
    for (u32 i = 0; i < n; i++) {
        const lb_command *c = commands[i];
        const char *second = strchr(c->name, ' ');
        if (c->hidden)
            continue;
        if (is_first_of_word(commands, i)) {
            lb_buf_printf(out, "complete -c lbrx -n __fish_use_subcommand -f -a %.*s -d '",
                          (int)strcspn(c->name, " "), c->name);
            put_quoted(out, second ? "" : c->summary, false);
            lb_buf_put_c(out, "'\n");
        }
        if (second)
            lb_buf_printf(out, "complete -c lbrx -n '__fish_seen_subcommand_from %.*s' -a %s\n",
                          (int)(second - c->name), c->name, second + 1);
        if (words_of(c) != WORDS_FILES) {
            lb_buf_printf(out, "complete -c lbrx -n '__fish_seen_subcommand_from %s' -f -a '",
                          c->name);
            put_words(out, c, commands, n);
            lb_buf_put_c(out, "'\n");
        }
        for (u32 g = 0; g < LB_OPT_GROUPS_MAX; g++)
            for (u32 k = 0; k < c->group[g].n; k++)
                if (is_shown(&c->group[g].opts[k]))
                    fish_option(out, c, &c->group[g].opts[k]);
    }
}
