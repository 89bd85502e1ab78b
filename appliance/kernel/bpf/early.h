/* SPDX-License-Identifier: GPL-2.0-only OR BSD-2-Clause */
/* Opens on which no rule can hold are counted and dropped before a record of them is finished.
 *
 * What may be dropped stands in one table (engine/early.py makes it): by piece of a path, the set of classes of opens
 * that some rule can hold on. kernel/early.py makes a new table for each set of rules and puts it into `early` whole;
 * where none lies there, nothing is dropped.
 */
#pragma once

#define EARLY_KEY 192     /* of a path, its NUL included; longer ones are kept as those that are not plain */
#define EARLY_WORDS (EARLY_KEY / 8)
#define EARLY_ENDS 1      /* codegen/reach.py, ENDS */
#define EARLY_REAL 2      /* REAL */
#define EARLY_SAMPLE 4096 /* of so many that could be dropped one is kept and marked, so that errors of ours show */
#define VIA_SAMPLED 4     /* model/event.py, SAMPLED */

struct early_key {
    u32 bits;
    u8 text[EARLY_KEY];
};

struct early_value {
    u64 classes;
    u64 ends; /* of all that paths end with */
    u64 real; /* of all names of files */
};

struct early_scratch {
    u64 before; /* the key's length stands in its last four bytes; the lead in the last one of the text's first word */
    u8 text[EARLY_KEY + 16];
};

BPF_F_TABLE("lpm_trie", struct early_key, struct early_value, early_like, 1, 1); /* BPF_F_NO_PREALLOC */
BPF_ARRAY_OF_MAPS(early, "early_like", 1);
BPF_PERCPU_ARRAY(early_scratches, struct early_scratch, 1);

static struct early_value *(*find_early)(void *map, const void *key) = (void *)1; /* bpf_map_lookup_elem */
static u32 (*random_u32)(void) = (void *)7;

#define BYTES8(c) (0x0101010101010101ULL * (c))
#define LOW7 BYTES8(0x7f)

/* The high bit of each byte of a word that is `c`. */
static __always_inline u64 where(u64 word, u64 c)
{
    u64 v = word ^ BYTES8(c);
    return ~(((v & LOW7) + LOW7) | v | LOW7);
}

/* Looks over a text of `len` bytes and a NUL behind which zeros follow. 0: it is not a plain path; 1: it is; 2: and has a
 * hidden component. A plain path has no `//`, `..`, `/./`, and no slash or `/.` at its end (engine/early.py, plain). */
static __always_inline u32 how_plain(const u8 *text, u32 len)
{
    u64 slashes = 0, dots = 0, second = 0, odd = 0, hidden = 0;
    if (text[0] != '/')
        return 0;
#pragma clang loop unroll(disable)
    for (u32 i = 0; i < EARLY_WORDS; i++) {
        if (8 * i > len)
            break;
        u64 word = *(u64 *)(text + 8 * i);
        u64 slash = where(word, '/'), dot = where(word, '.'), end = where(word, 0);
        u64 behind_slash = slash << 8 | slashes >> 56, behind_dot = dot << 8 | dots >> 56;
        u64 second_behind = behind_slash << 8 | second >> 56;
        odd |= behind_slash & (slash | end);
        odd |= behind_dot & dot;
        odd |= second_behind & behind_dot & (slash | end);
        hidden |= behind_slash & dot;
        slashes = slash;
        dots = dot;
        second = behind_slash;
    }
    if (odd)
        return 0;
    return hidden ? 2 : 1;
}

static __always_inline struct early_value *find_ends(void *table, struct scratch *s, const u32 from, u32 len)
{
    u32 zero = 0;
    struct early_scratch *own = early_scratches.lookup(&zero);
    if (!own)
        return 0;
    /* the text backwards, word by word from its end; what is read before its beginning is beyond the key's bits */
    own->text[7] = EARLY_ENDS;
#pragma clang loop unroll(disable)
    for (u32 i = 0; i < EARLY_WORDS; i++) {
        if (8 * i >= len)
            break;
        u64 at = opaque(from + len - 8 * i - 8);
        if (at > ROOM)
            break;
        *(u64 *)(own->text + 8 + 8 * i) = __builtin_bswap64(*(u64 *)(s->data + at));
    }
    *(u32 *)(own->text + 3) = 8 * (len + 1);
    return find_early(table, own->text + 3);
}

/* The same for the name of the file that was opened, links followed; NULL where it cannot be told. */
static __always_inline struct early_value *find_real(void *table, s64 res)
{
    u32 zero = 0;
    u64 file = file_of(res), dentry = 0, mnt = 0, root = 0, name = 0;
    struct early_scratch *own = early_scratches.lookup(&zero);
    if (!own || !file)
        return 0;
    READ(dentry, AT(file, file_f_path), path_dentry);
    READ(mnt, AT(file, file_f_path), path_mnt);
    READ(root, mnt, vfsmount_mnt_root);
    if (dentry == root) /* it goes by the name of where it is mounted */
        return 0;
    READ(name, dentry, dentry_d_name_name);
    own->text[7] = EARLY_REAL;
    long n = bpf_probe_read_kernel_str(own->text + 8, EARLY_KEY - 8, (const void *)name);
    if (n <= 0 || n >= EARLY_KEY - 8)
        return 0;
    *(u32 *)(own->text + 3) = 8 * (n + 1);
    return find_early(table, own->text + 3);
}

/* False for an open on which no rule can hold. `name` is what stands `from` bytes into the record, `len` bytes long and
 * last. `class` is the open's, but for its path. */
static __always_inline bool may_matter(struct scratch *s, const u32 from, u16 len, u64 class, s64 res)
{
    u32 zero = 0;
    struct head *head = (struct head *)s->data;
    void *table = (void *)early.lookup((int *)&zero);
    if (!table || head->via != VIA_SYSCALL || len == ABSENT || (res >= 0 && res <= 2))
        return true; /* a standard stream is a fact of its process */
    u64 end = opaque(from + len);
    if (end > ROOM)
        return true;
    *(u64 *)&s->data[end] = 0;
    u32 plain = len < EARLY_KEY ? how_plain(&s->data[from], len) : 0;
    /* in front of the name stands what the record says of it: for a moment, the key's length does */
    struct early_key *key = (struct early_key *)&s->data[from - 4];
    u32 was = key->bits;
    key->bits = plain ? 8 * ((u32)len + 1) : 0;
    struct early_value *found = find_early(table, key);
    key->bits = was;
    if (!found)
        return true;
    if (plain == 2)
        class |= OPEN_HIDDEN;
    u64 bit = 1ULL << (class & 63);
    if (found->classes & bit)
        return true;
    if (!plain)
        return false;
    u64 real = found->real;
    if (found->ends & bit) {
        struct early_value *ends = find_ends(table, s, from, len);
        if (!ends || ends->classes & bit)
            return true;
    }
    if (res >= 0 && real & bit) {
        struct early_value *name = find_real(table, res);
        if (!name || name->classes & bit)
            return true;
    }
    return false;
}

/* The class of an open, but for its path: catalog/opens.py, class_of. */
static __always_inline u64 class_of(u32 flags, s64 res)
{
    u64 class = res < 0 ? OPEN_FAILED : 0;
    u32 access = flags & 3;
    if (!(flags & FLAG_PATH)) {
        if (access == 0 || access == 2)
            class |= OPEN_READ;
        if (access == 1 || access == 2)
            class |= OPEN_WRITE;
    }
    if (flags & FLAG_CREAT || (flags & FLAG_TMPFILE) == FLAG_TMPFILE)
        class |= OPEN_CREATE;
    if (flags & FLAG_DIRECTORY && (flags & FLAG_TMPFILE) != FLAG_TMPFILE)
        class |= OPEN_FOLDER;
    return class;
}

/* Count what is dropped, and free the scratch record. */
static __always_inline void drop(struct scratch *s)
{
    u32 type = ((struct head *)s->data)->type;
    struct book *book = books.lookup(&type);
    if (book) {
        book->produced += 1;
        book->filtered += 1;
    }
    s->busy = 0;
}

/* In a handler, once the name of what is opened has been put: ends it where nobody can want the record. */
#define DROP_EARLY(flags)                                                                      \
    do {                                                                                       \
        if (!may_matter(s, sizeof(*e), e->len_name, class_of(flags, c.res), c.res)) {          \
            if (random_u32() & (EARLY_SAMPLE - 1)) {                                               \
                drop(s);                                                                       \
                return 0;                                                                      \
            }                                                                                  \
            ((struct head *)s->data)->via = VIA_SAMPLED;                                       \
        }                                                                                      \
    } while (0)
