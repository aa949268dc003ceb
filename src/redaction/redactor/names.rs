//! Names of people and places, taken out of calls that were redacted here.

use super::{
    Redactor,
    work::{Calls, Work},
};
use crate::{
    domain::Call,
    redaction::{
        Treatment,
        names::{self, FoundNames, Names, NamesError},
    },
};

impl Redactor {
    /// Who is asked for names, where somebody is.
    pub fn names(&self) -> Option<&Names> {
        self.names.as_ref()
    }

    /// Takes names out of a call that [`Redactor::message`] has redacted: the same name has the same placeholder in its
    /// input, answer, contexts and metadata. Nothing happens where nobody is asked.
    ///
    /// # Errors
    /// [`NamesError`]; the call is as it was then, and [`Names::when_down`] says what becomes of it.
    pub async fn take_out_names(&self, call: &mut Call) -> Result<(), NamesError> {
        let found = self.find_names(call).await?;
        self.replace_names(call, &found);
        Ok(())
    }

    /// Asks for the names in a call, but for kinds that stay in it. With [`Redactor::replace_names`] it is
    /// [`Redactor::take_out_names`]; alone, for who does the work after it off the runtime.
    ///
    /// # Errors
    /// [`NamesError`].
    pub async fn find_names(&self, call: &Call) -> Result<FoundNames, NamesError> {
        let Some(names) = &self.names else { return Ok(FoundNames::default()) };
        let treatment = |kind: &&str| {
            self.config.treatment(kind, Some(call.environment.as_str()), Some(call.tenant_id.as_str()))
        };
        let kinds: Vec<&str> = names.kinds().filter(|kind| treatment(kind) != Treatment::Keep).collect();
        let known: Vec<&str> = self.kinds().collect();
        names.find(call, &kinds, &known).await
    }

    /// Takes out of a call what was found in it.
    pub fn replace_names(&self, call: &mut Call, found: &FoundNames) {
        if found.is_empty() {
            return;
        }
        let (environment, tenant_id) = (call.environment.clone(), call.tenant_id.clone());
        let mut work = Work::new(self, Calls::Of { environment: &environment, tenant_id: Some(&tenant_id) });
        names::texts_of(call, &mut |text| work.count(text));
        let known: Vec<&str> = self.kinds().collect();
        found.replace(call, &known, &mut |kind, name| work.instead(kind, name));
    }
}
