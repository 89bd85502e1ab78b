/* SPDX-License-Identifier: GPL-2.0-only OR BSD-2-Clause */
/* The way out: which ring a record goes into, whose turn it is to lose when one fills, and the books of it.
 *
 * Ring 0 carries what keeps the process table true. The others carry the rest, one for each CPUS_PER_RING processors.
 * The rings are made by kernel/loader.py and put into the table `rings`: bcc would want each by name.
 *
 * Fair share: while less than a quarter of a ring waits to be read, nobody is counted. Above that, what each cgroup
 * writes is counted for as long as the reader takes to read a quarter of the ring (an epoch), and once half of it
 * waits, a cgroup that has written more than a quarter of the ring divided by the cgroups that write loses the rest of
 * its epoch. So who floods is held to what the reader can bear, and a quarter of the ring is left for all others.
 *
 * A reader that is slow would take long for a half of the ring, and all others would wait behind it. It says in `pace`
 * how much it reads in the time that they may wait; where that is less than the ring, the shares are shares of it, and
 * what has been let in before it was known has to become less.
 */
#pragma once

#define QUERY_WAITING 0  /* BPF_RB_AVAIL_DATA */
#define QUERY_READ_TO 2  /* BPF_RB_CONS_POS */
#define LEAST_SHARE 32768 /* of any cgroup in an epoch: some hundred records, as starting a program makes */

struct share_key {
    u64 cgroup;
    u64 ring;
};

struct share {
    u64 epoch;
    u64 bytes;
};

struct epoch {
    u64 number;
    u64 cgroups; /* that have written in it */
};

BPF_RINGBUF_OUTPUT(ring_like, 1); /* what the table's maps are like, not used itself */
BPF_ARRAY_OF_MAPS(rings, "ring_like", RINGS);

/* bcc knows these only as members of a ring's name. Numbers: include/uapi/linux/bpf.h. */
static long (*ring_output)(void *ring, void *data, u64 size, u64 flags) = (void *)130;
static u64 (*ring_query)(void *ring, u64 what) = (void *)134;

BPF_TABLE("lru_hash", struct share_key, struct share, shares, 4096);
BPF_ARRAY(epochs, struct epoch, RINGS);

/* The cgroup of the running task, by the hierarchy that container engines use: an address that names it. */
static __always_inline u64 this_cgroup(void)
{
    u64 css = 0, cgroup = 0;
    READ(css, this_task(), task_struct_cgroups);
    bpf_probe_read_kernel(&css, 8, (const void *)(AT(css, css_set_subsys) + 8 * CGROUP_V1_INDEX));
    READ(cgroup, css, cgroup_subsys_state_cgroup);
    return cgroup;
}

/* False when this record's cgroup has had its share. Counts are not exact between CPUs; they need not be. */
static __always_inline bool fair(u32 number, void *ring, u64 bytes, u64 size, u64 waiting)
{
    u64 quarter = bytes / 4, now = ring_query(ring, QUERY_READ_TO) / quarter, cgroups;
    struct share_key key = {.cgroup = this_cgroup(), .ring = number};
    struct epoch *epoch = epochs.lookup(&number);
    if (!epoch)
        return true;
    if (epoch->number != now) {
        epoch->number = now;
        epoch->cgroups = 0;
    }
    struct share *share = shares.lookup(&key);
    if (!share) {
        struct share first = {.epoch = now, .bytes = size};
        shares.update(&key, &first);
        __sync_fetch_and_add(&epoch->cgroups, 1);
        return true;
    }
    if (share->epoch != now) {
        share->epoch = now;
        share->bytes = 0;
        __sync_fetch_and_add(&epoch->cgroups, 1);
    }
    cgroups = epoch->cgroups ? epoch->cgroups : 1;
    u64 most = quarter / cgroups;
    if (most < LEAST_SHARE) /* where the reader is slow and many write, those who hardly do lose nothing */
        most = LEAST_SHARE;
    if (waiting > bytes / 2 && share->bytes > most)
        return false;
    if (waiting > bytes / 4 * 3 && share->bytes > most / 2) /* it must become less */
        return false;
    __sync_fetch_and_add(&share->bytes, size);
    return true;
}

/* Hand the record over, wake the reader if it sleeps, and write the books. */
static __always_inline void submit(struct scratch *s)
{
    u32 zero = 0;
    struct head *head = (struct head *)s->data; /* bcc wants a pointer, and crashes on an array */
    u32 type = head->type, kind = kind_of(type);
    u32 number = kind & KIND_STATE ? 0 : 1 + head->cpu / CPUS_PER_RING;
    u64 bytes = number ? RING_BYTES : STATE_RING_BYTES;
    u64 size = opaque(s->at);
    struct book *book = books.lookup(&type);
    if (size > ROOM + TEXT_MAX)
        size = ROOM + TEXT_MAX;
    if (!book)
        goto done;
    book->produced += 1;
    if (!keep(head, kind)) {
        book->filtered += 1;
        goto done;
    }
    void *ring = (void *)rings.lookup((int *)&number);
    if (!ring) {
        book->full += 1;
        goto done;
    }
    u64 waiting = ring_query(ring, QUERY_WAITING);
    u64 room = bytes;
    u64 *most = number ? pace.lookup((int *)&zero) : 0;
    if (most && *most && *most < bytes)
        room = *most;
    if (waiting > room / 4 && !fair(number, ring, room, size, waiting)) {
        book->unfair += 1;
        goto done;
    }
    u64 flags = RB_NO_WAKEUP;
    u32 *asleep = sleeping.lookup(&zero);
    if (asleep && *asleep) {
        *asleep = 0;
        flags = RB_FORCE_WAKEUP;
    }
    if (ring_output(ring, head, size, flags))
        book->full += 1;
done:
    s->busy = 0;
}
