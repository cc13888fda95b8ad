//! Frames that did not come back or came back broken: what is borne and when it is too much.

use std::collections::VecDeque;
use std::time::Instant;

use super::LeaveReason;
use super::frames::LOSS_SPAN;
use super::session::SessionSender;

impl SessionSender {
    /// Rule 2: frames that the recipient returned and the link lost count as earned, up to a share.
    pub(super) fn forgive(&mut self, now: Instant) {
        let arrived = self.frames_returned + self.frames_bad + self.frames.young();
        let lost = self.told.returned.saturating_sub(arrived);
        let recent = |times: &mut VecDeque<Instant>| {
            times.retain(|at| now.saturating_duration_since(*at) < LOSS_SPAN);
        };
        recent(&mut self.lost_at);
        recent(&mut self.bad_at);
        while self.forgiven < lost {
            let sent = self.frames.sent_in_span();
            let allowed = (sent * self.config.loss_allowed_permille).div_ceil(1000).max(1);
            if self.lost_at.len() as u32 >= allowed {
                let lost = self.lost_at.len() as u32 + 1;
                self.leave(LeaveReason::Lost { lost, sent });
                return;
            }
            self.forgiven += 1;
            self.lost_at.push_back(now);
            self.earned = self.earned.saturating_add(self.set().fee);
        }
    }

    pub(super) fn bad_frame(&mut self, now: Instant) {
        self.frames_bad += 1;
        self.bad_at.push_back(now);
        let sent = self.frames.sent_in_span();
        let allowed = (sent * self.config.loss_allowed_permille).div_ceil(1000).max(1);
        let bad = self.bad_at.len() as u32;
        if bad > allowed {
            self.leave(LeaveReason::Bad { bad, sent });
        }
    }
}
