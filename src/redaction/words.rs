//! The words that say what a value near them is, in the languages of our traffic.

use super::context::Topic;

/// Words by topic, separated by blanks. Within one, `_` stands for a blank, an underscore or a hyphen; at its ends, `~`
/// says that the word may go on. ASCII capitals are folded when they are compared; of other letters both forms are
/// listed. Where two words overlap the longer is read: "public key" is no key.
pub(super) const WORDS: &[(Topic, &str)] = &[
    (
        Topic::Phone,
        "phone telephone cellphone smartphone~ mobile cell tel fon fax whatsapp hotline landline call \
         called calls calling caller ring rings dial text_me texted text_the sms voicemail msisdn \
         contact contacts kontakt~ contacto contato contatto contact_number my_number reach_me reached_at callback call_back ~telefon~ handy~ ~rufnummer~ \
         rückruf~ mobil~ anruf~ angerufen anzurufen rufen ruf erreich~ festnetz~ téléphon~ teléfon~ \
         portable fixe joindre joignable appel~ rappel~ mobile~ numéro_est llam~ llám~ móvil celular~ \
         telefone~ telemóvel ligar ligou ligue ligação fixo cellulare chiam~ telefoon~ bellen komórk~ \
         मोबाइल फ़ोन फोन कॉल 電話 携帯 電話番号 折り返し 連絡先 手机 手機 电话 電話號碼 电话号码 هاتف جوال موبايل اتصل الاتصال телефон~ \
         Телефон~ тел звон~ Звон~ позвон~ 전화 휴대폰 연락처 โทร m: t:",
    ),
    (
        Topic::Ssn,
        "ssn ssns social_security soc_sec my_social social: social_# social_is ss# ss_number seguro_social \
         sécurité_sociale segurança_social sozialversicherung~ 社会保障番号 社会安全号 identity_with identification \
         background_check tax_id tax_identification taxpayer_id tin itin",
    ),
    (
        Topic::Secret,
        "~key ~keys ~token ~secret ~secrets ~passphrase ~passcode ~credential ~credentials authorization \
         bearer basic auth ~authtoken cookie session sessionid session_id ~sessid ~schlüssel~ zugangstoken \
         clé clef jeton clave llave chave chiave sleutel klucz キー トークン 秘密 कुंजी टोकन مفتاح رمز 密钥 密鑰 令牌 \
         ключ~ Ключ~ токен~ Токен~ 키 토큰",
    ),
    (
        Topic::Password,
        "~password ~passwords ~passwd ~pwd pw pass passwort~ kennwort~ mot_de_passe contraseña senha \
         palavra-passe parola wachtwoord hasło パスワード पासवर्ड كلمة_المرور 密码 密碼 пароль Пароль 비밀번호",
    ),
    (
        Topic::Address,
        "ip ips ipv4 ipv6 ip_address ~ip ip-adresse adresse_ip dirección_ip endereço_ip ipアドレス ip地址 inet \
         inet6 addr address client_ip host server router gateway peer remote x-forwarded-for login sign-in \
         signed_in connected connect from",
    ),
    (
        Topic::Version,
        "version versions ver ~version~ release releases released firmware~ ~build upgrade~ upgrading \
         downgrade~ patch~ driver sdk revision rev fixed_in present_in introduced_in section chapter clause \
         § changelog versión versão versione версия~ Версия~ версии версию バージョン ファームウェア 版 版本 संस्करण \
         الإصدار إصدار 버전 วอร์ชัน v package~ ~Version=",
    ),
    (
        Topic::Record,
        "part parts part_no order orders invoice~ receipt case cases ticket~ item items ref reference~ sku \
         serial model product~ tracking catalog catalogue article~ isbn issn ean gtin upc imei iccid vin \
         barcode bar_code parcel shipment~ consignment waybill container booking transaction~ account_n~ \
         batch lot quote~ drawing~ shelf shelf_mark slot room rooms page pages line lines chapter \
         chapters article_number version~ release build uuid id request~ card~ iban~ doi asset meter \
         code coupon voucher price total amount range bestell~ auftrag~ rechnung~ vorgang~ sendung~ \
         artikel~ ersatzteil~ teilenummer~ serien~ vertrag~ kunden~ beleg~ aktenzeichen commande facture \
         colis envoi référence dossier pedido envío factura referencia encomenda fatura ordine fattura \
         bestelling 注文 注文番号 問い合わせ番号 伝票 订单 订单号 快递 发票 单号 编号 ऑर्डर رقم_الطلب التتبع الطلب заказ~ Заказ~ трек~ \
         Трек~ 주문번호 주문 송장 พัสดุ คำสั่งซื้อ",
    ),
    (
        Topic::Digest,
        "md5 sha sha1 sha256 sha-256 sha384 sha512 sha-1 sha-512 hash hashes ~hash checksum~ digest~ \
         prüfsumme~ etag commit commits cherry-pick revert rev trace~ span~ traceparent request_id request \
         uuid guid id ids fingerprint integrity public_key public_keys publishable_key publishable site_key \
         site-key sitekey public_site_key host_key known_hosts cache_key cache_entry primary_key \
         foreign_key partition_key idempotency_key idempotency-key object_key routing_key sort_key key_id \
         cursor next_cursor page_token next_page_token continuation_token nonce certificate~ public csrf \
         ssh-rsa ssh-ed25519",
    ),
];
