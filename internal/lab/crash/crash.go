// Package crash tries the queue's promise against power cuts, failing disks
// and kills.
//
// A power cut is modelled, not made: a real process works on a real state
// directory under strace, which records its writes, syncs, renames and
// unlinks with their data, and what it acknowledged, in one order. Disk
// replays that record up to any point and then decides what a disk without
// power would hold: everything synced, and of the rest any part, torn at
// sectors. The queue is opened on what is left and compared with what had
// been acknowledged by then.
package crash
