//! One viewer's timeline.

use super::*;

const FRAME: Ticks = Ticks::from_millis(20);

fn ms(ms: u64) -> Duration {
    Duration::from_millis(ms)
}

#[test]
fn sound_and_picture_of_one_moment_get_one_wall_time() {
    let start = Instant::now();
    let mut clock = ViewerClock::new(start, Ntp(77 << 32));
    // The picture is 60 ms longer on its way than the sound of the same name.
    for step in 0..500_i64 {
        let pts = Pts(1_000_000) + Ticks(FRAME.0 * step);
        let arrived = start + ms(20) * step as u32;
        let sound = clock.place(pts, arrived);
        let picture = clock.place(pts, arrived + ms(60));
        assert_eq!(sound, picture, "late or not, the name decides");
        assert_eq!(sound, clock.ticks(arrived));
    }
    let report = start + ms(2500);
    assert_eq!(clock.wall(report).since(Ntp(77 << 32)), clock.ticks(report));
}

#[test]
fn cached_frames_teach_the_smallest_delay() {
    let start = Instant::now();
    let joined = start + ms(2000);
    let mut clock = ViewerClock::new(joined, Ntp(0));
    for (pts, late) in [(0, 40), (20, 5), (40, 90)] {
        clock.observe(Pts::from_millis(pts), start + ms(pts as u64 + late));
    }
    let live = clock.place(Pts::from_millis(2020), start + ms(2100));
    assert_eq!(live, Ticks::from_millis(25), "its moment by the best delay, though it came at 100");
}

#[test]
fn the_timeline_goes_on_when_names_jump_while_the_other_track_is_still_old() {
    let start = Instant::now();
    let mut clock = ViewerClock::new(start, Ntp(0));
    let mut last = [Ticks(i64::MIN); 2];
    for step in 0..200_u32 {
        let arrived = start + ms(20) * step;
        // Pictures change over at step 100, sound three steps later.
        for (track, change) in [(0, 100), (1, 103)] {
            let jump = if step < change { 0 } else { -500_000_000 };
            let at = clock.place(Pts(i64::from(step) * FRAME.0 + jump), arrived);
            assert_eq!(at, clock.ticks(arrived));
            assert!(at > last[track]);
            last[track] = at;
        }
    }
}

#[test]
fn wall_time_has_the_resolution_of_the_media() {
    let wall = Ntp::from_system(UNIX_EPOCH + Duration::from_millis(1500));
    assert_eq!(wall.0 >> 32, NTP_UNIX_SECONDS + 1);
    assert_eq!(wall.plus(ms(10)).since(wall).0 + 1, 900, "rounded down");
    assert_eq!(wall.since(wall.plus(ms(1000))).0, -90_000);
    assert_eq!(Ntp(0x1234_5678_9abc_def0).middle(), 0x5678_9abc);
}
